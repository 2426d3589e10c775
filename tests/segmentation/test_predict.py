from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import napari_cvsuite
from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, Context, OptionError
from napari_cvsuite.models.catalog import UnknownModelError
from napari_cvsuite.models.device import DeviceError
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.plane import predict_probabilities
from napari_cvsuite.segmentation.predict import _separate_stain, run, uncertainty

RNG = np.random.default_rng(0)


class Threshold(nn.Module):
    """A network of one pixel's reach: class 1 where the image is bright."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([-x[:, 0], x[:, 0]], dim=1), x


@given(st.integers(1, 300), st.integers(1, 300))
def test_tiled_equals_whole_for_a_bounded_network(height: int, width: int) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (height, width, 3)).astype(np.float32)
    whole = predict_probabilities(Threshold(), image, 1024)
    tiled = predict_probabilities(Threshold(), image, 96, halo=16)
    assert tiled.shape == (2, height, width)
    assert np.abs(whole - tiled).max() < 1e-5


def test_uncertainty_spans_zero_to_one() -> None:
    p = np.array([[[0.5, 1.0]], [[0.5, 0.0]]], np.float32)
    assert uncertainty(p)[0] == pytest.approx([1.0, 0.0], abs=1e-5)


@pytest.mark.parametrize(
    "array",
    [
        RNG.integers(0, 255, (40, 50), dtype=np.uint8),
        RNG.integers(-30_000, 30_000, (33, 47)).astype(np.int16),
        RNG.random((40, 50, 3)).astype(np.float64),
        RNG.integers(0, 255, (40, 50, 4), dtype=np.uint8),
        RNG.random((40, 50)) > 0.5,
        np.full((20, 20), 7.0),
        np.array([[1.0]]),
        np.where(RNG.random((30, 30)) > 0.9, np.nan, 1.0),
        RNG.random((1, 90)),
    ],
    ids=["u1", "i2", "rgb", "rgba", "bool", "constant", "pixel", "nan", "thin"],
)
def test_any_input_gives_a_mask_of_its_own_size(tiny_model: str, array: np.ndarray) -> None:
    result = napari_cvsuite.segment(array, model=tiny_model)
    assert result.classes.shape == array.shape[:2] == result.objects.shape
    assert result.classes.dtype == np.uint8
    assert np.isfinite(result.probabilities).all()
    assert result.probabilities.astype(float).sum(axis=-3) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("array", "options", "error", "remedy"),
    [
        (np.zeros((0, 4)), {}, ImageError, "load another"),
        (np.full((8, 8), np.nan), {}, ImageError, "load another"),
        (np.zeros((8, 8), complex), {}, ImageError, "convert"),
        (np.zeros(8), {}, ImageError, "axes="),
        (np.zeros((8, 8)), {"model": "qtseg-nuclej"}, UnknownModelError, "qtseg-nuclej"),
        (np.zeros((8, 8)), {"stain": "hematoxylin"}, ImageError, "RGB"),
        (np.zeros((8, 8)), {"tile": 100}, OptionError, "multiple of 32"),
        (np.zeros((8, 8)), {"min_size": -1}, OptionError, "between"),
        (np.zeros((8, 8)), {"objects": "magic"}, OptionError, "watershed"),
        (np.zeros((8, 8)), {"device": "cuda:99"}, DeviceError, "available"),
    ],
)
def test_bad_input_says_what_to_do(
    tiny_model: str,
    array: np.ndarray,
    options: dict[str, object],
    error: type[Exception],
    remedy: str,
) -> None:
    with pytest.raises(error, match=remedy):
        napari_cvsuite.segment(array, **{"model": tiny_model, **options})


def test_stack_is_planes_one_by_one(tiny_model: str) -> None:
    stack = RNG.integers(0, 255, (2, 3, 32, 40), dtype=np.uint8)
    result = napari_cvsuite.segment(stack, model=tiny_model)
    assert result.axes == "tzyx" and result.classes.shape == stack.shape
    single = napari_cvsuite.segment(stack[1, 2], model=tiny_model)
    assert np.array_equal(result.classes[1, 2], single.classes)
    assert np.array_equal(result.probabilities[1, 2], single.probabilities)


def test_flips_make_the_result_symmetric(tiny_model: str) -> None:
    array = RNG.random((64, 64))
    result = napari_cvsuite.segment(array, model=tiny_model, tta=True)
    turned = napari_cvsuite.segment(np.rot90(array), model=tiny_model, tta=True)
    back = np.rot90(turned.probabilities, -1, axes=(1, 2)).astype(float)
    assert np.abs(back - result.probabilities).max() < 5e-3


def test_cancelled_job_stops_and_gives_the_model_back(tiny_model: str) -> None:
    from napari_cvsuite.models.store import default_store

    context = Context()

    def stop(_progress: object) -> None:
        context.token.cancel()

    context.on_progress = stop
    image = Image.from_array(np.zeros((4, 32, 32)))
    with pytest.raises(Cancelled):
        run(image, PredictOptions(model=tiny_model), context)
    assert default_store().in_use() == {}


def test_provenance_names_what_made_the_result(tiny_model: str) -> None:
    facts = napari_cvsuite.segment(np.eye(40), model=tiny_model).provenance
    assert facts["model"] == tiny_model and len(facts["weights_sha256"]) == 64
    assert facts["version"] == napari_cvsuite.__version__
    assert {"options", "device", "precision", "tile", "threads", "seconds"} <= facts.keys()


def test_stain_separation_sees_blue_and_not_brown() -> None:
    from skimage.color import hed2rgb

    density = np.zeros((40, 40, 3))
    density[:20, :, 0] = 0.1
    density[10:30, :, 2] = 0.1
    rgb = np.rint(255 * hed2rgb(density)).astype(np.uint8)
    hematoxylin = _separate_stain(rgb, "hematoxylin")
    assert np.ptp(hematoxylin[:20]) < 0.02 and np.ptp(hematoxylin[20:]) < 0.02
    assert hematoxylin[:20].mean() - hematoxylin[20:].mean() > 0.08
