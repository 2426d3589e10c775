from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import napari_cvsuite
from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, Context, OptionError, Progress
from napari_cvsuite.models.catalog import UnknownModelError
from napari_cvsuite.models.device import DeviceError
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.plane import predict_probabilities
from napari_cvsuite.segmentation.predict import TilePreview, run, uncertainty

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
        (np.zeros((8, 8)), {"axis": "z"}, ImageError, "choose one of these"),
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


def test_axis_y_segments_the_planes_of_z_and_x(tiny_model: str) -> None:
    volume = RNG.integers(0, 255, (33, 3, 40), dtype=np.uint8)
    result = napari_cvsuite.segment(volume, model=tiny_model, axis="y")
    assert result.axes == "zyx" and result.classes.shape == volume.shape == result.objects.shape
    assert result.probabilities.shape == (33, 2, 3, 40)
    for y in range(3):
        single = napari_cvsuite.segment(volume[:, y], model=tiny_model)
        assert np.array_equal(result.classes[:, y], single.classes)
        assert np.array_equal(result.probabilities[:, :, y], single.probabilities.swapaxes(0, 1))
    assert {row["plane"] for row in result.table} <= {0.0, 1.0, 2.0}


def test_channels_choose_and_order(tiny_model: str) -> None:
    image = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    chosen = napari_cvsuite.segment(image, model=tiny_model, channels="2,1,0")
    turned = napari_cvsuite.segment(image[..., ::-1], model=tiny_model)
    assert np.array_equal(chosen.probabilities, turned.probabilities)
    gray = napari_cvsuite.segment(image, model=tiny_model, channels="1")
    single = napari_cvsuite.segment(image[..., 1], model=tiny_model)
    assert np.array_equal(gray.probabilities, single.probabilities)


@pytest.mark.parametrize("channels", ["a", "1,", "-1", "0,1,2,3", "1.5", "²"])
def test_channels_that_are_no_numbers(channels: str) -> None:
    with pytest.raises(OptionError, match="one to three numbers"):
        PredictOptions(channels=channels)


def test_channels_that_the_image_lacks(tiny_model: str) -> None:
    with pytest.raises(ImageError, match="channels 0 to 2"):
        napari_cvsuite.segment(np.zeros((9, 9, 3), "u1"), model=tiny_model, channels="3")
    with pytest.raises(ImageError, match="one channel, 0"):
        napari_cvsuite.segment(np.zeros((9, 9)), model=tiny_model, channels="0,1")
    five = Image.from_array(np.zeros((5, 9, 9)), axes="cyx")
    with pytest.raises(ImageError, match="choose up to three"):
        run(five, PredictOptions(model=tiny_model), Context())


@pytest.mark.parametrize("axis", ["auto", "x"])
def test_previews_of_all_tiles_cover_the_result(tiny_model: str, axis: str) -> None:
    seen: list[Progress] = []
    shape = (2, 70, 150) if axis == "auto" else (70, 150, 2)
    volume = RNG.integers(0, 255, shape, dtype=np.uint8)
    options = PredictOptions(model=tiny_model, tile=64, halo=8, axis=axis)
    result = run(Image.from_array(volume), options, Context(on_progress=seen.append))
    previews = [(p, p.preview) for p in seen if p.preview is not None]
    canvas = np.full(shape, 255, np.uint8)
    for progress, preview in previews:
        assert isinstance(preview, TilePreview)
        canvas[preview.index] = preview.classes
        height, width = preview.classes.shape
        plane = result.classes.transpose(2, 0, 1)[preview.plane] if axis == "x" else None
        if plane is not None:
            assert plane[preview.y : preview.y + height, preview.x :][:, :width].shape == (64, 64)
        assert 0 < progress.done <= progress.total == len(previews)
    assert [p.done for p, _ in previews] == list(range(1, len(previews) + 1))
    # Previews differ from the result only where tiles overlap and are blended.
    assert canvas.max() <= 1 and (canvas == result.classes).mean() > 0.9


def test_halo_never_eats_up_the_tile(tiny_model: str) -> None:
    result = napari_cvsuite.segment(RNG.random((100, 130)), model=tiny_model, tile=64, halo=512)
    assert result.provenance["halo"] == 16 and result.provenance["tile"] == 64


def test_too_large_for_memory_names_the_way_out(tiny_model: str) -> None:
    huge = np.broadcast_to(np.uint8(0), (20_000, 20_000))
    with pytest.raises(ImageError, match="napari-cvsuite segment"):
        napari_cvsuite.segment(huge, model=tiny_model)


@pytest.mark.parametrize("axis", ["auto", "y"])
def test_skipped_planes_stay_background_and_are_not_read(tiny_model: str, axis: str) -> None:
    class Guarded:
        shape, dtype, ndim = (4, 64, 64), np.dtype("f4"), 3
        pixels = RNG.random((4, 64, 64)).astype("f4")

        def __getitem__(self, at: tuple[object, ...]) -> np.ndarray:
            assert at[0] not in (1, 2), "a plane that is left out was read"
            return self.pixels[at]

    data = Guarded() if axis == "auto" else Guarded.pixels.transpose(1, 0, 2)
    options = PredictOptions(model=tiny_model, axis=axis, skip="1-2", min_size=0)
    result = run(Image.from_array(data), options, Context())
    whole = run(Image.from_array(Guarded.pixels), PredictOptions(model=tiny_model), Context())
    order = (0, 1, 2) if axis == "auto" else (1, 0, 2)
    classes = result.classes.transpose(order)
    assert not classes[1:3].any() and not result.objects.transpose(order)[1:3].any()
    np.testing.assert_array_equal(classes[[0, 3]], whole.classes[[0, 3]])
    background = result.probabilities[..., 0, :, :].transpose(order)
    assert (background[1:3] == 1).all() and {row["plane"] for row in result.table} <= {0.0, 3.0}


@pytest.mark.parametrize("skip", ["x", "1-", "5-3", "-1", "1;2", "1,,2", "٣"])
def test_planes_that_are_no_numbers(skip: str) -> None:
    with pytest.raises(OptionError, match="such as 0,3-5"):
        PredictOptions(skip=skip)


@pytest.mark.parametrize(
    ("skip", "said"),
    [("1,3", "plane 3 .* planes 0 to 2"), ("0-2", "all planes"), ("999999999", "planes 0 to 2")],
)
def test_planes_that_cannot_be_left_out(tiny_model: str, skip: str, said: str) -> None:
    options = PredictOptions(model=tiny_model, skip=skip)
    with pytest.raises(ImageError, match=said):
        run(Image.from_array(np.zeros((3, 32, 32))), options, Context())
