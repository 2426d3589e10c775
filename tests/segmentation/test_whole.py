"""Networks that see the whole image in one square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import napari_cvsuite
from napari_cvsuite.images.resize import pad_square, resize_longest_side, rgb_to_ycrcb
from napari_cvsuite.jobs import Context
from napari_cvsuite.models.catalog import CardError, Catalogue, InputSpec
from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.segmentation.whole import enlarge_rows, network_input, predict_small

RNG = np.random.default_rng(0)
Side = st.integers(1, 40)


@pytest.fixture
def whole_model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "square.safetensors"
    save_file(QTSeg(QTSegConfig(n_channel=4)).state_dict(), path)
    default_store().evict_all()
    return import_file(path, {"input": InputSpec("resize", 96, "ycrcb")}).name


@pytest.mark.parametrize("shape", [(96, 60, 3), (40, 96, 3), (300, 200, 3), (1, 7, 3)])
def test_input_is_that_of_the_recipe(shape: tuple[int, int, int]) -> None:
    pixels = RNG.integers(30, 220, shape, dtype=np.uint8)
    found = network_input(pixels, InputSpec("resize", 96, "ycrcb"))
    assert found.shape == (96, 96, 3) and found.dtype == np.float32
    padded = pad_square(rgb_to_ycrcb(resize_longest_side(pixels, 96)), 96).astype(np.float64)
    span = padded.max() - padded.min()
    np.testing.assert_allclose(found, 2 * (padded - padded.min()) / span - 1, atol=1e-6)


@given(Side, Side, Side, Side)
def test_rows_are_those_of_torch(h: int, w: int, height: int, width: int) -> None:
    small = np.random.default_rng(h * 41 + w).random((2, h, w), np.float32)
    whole = F.interpolate(torch.from_numpy(small)[None], (height, width), mode="bilinear")
    middle = height // 2
    upper = enlarge_rows(small, (height, width), 0, middle)
    lower = enlarge_rows(small, (height, width), middle, height)
    np.testing.assert_allclose(np.concatenate([upper, lower], axis=1), whole[0], atol=1e-5)


class Bright(nn.Module):
    """Class 1 where the first channel is bright."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([-9 * x[:, 0], 9 * x[:, 0]], dim=1), x


@pytest.mark.parametrize("tta", [False, True])
def test_the_padding_is_cut_off_and_flips_come_back(tta: bool) -> None:
    pixels = np.zeros((48, 96, 3), np.uint8)
    pixels[:20, 30:] = 255
    found = predict_small(Bright(), pixels, InputSpec("resize", 96), "cpu", "float32", tta)
    assert found.shape == (2, 48, 96)
    np.testing.assert_array_equal(found.argmax(0) == 1, pixels[..., 0] > 0)


@pytest.mark.parametrize("shape", [(130, 90, 3), (31, 64, 3), (3, 70, 50), (1, 1), (200, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_any_image_gets_a_mask_of_its_size(
    whole_model: str, shape: tuple[int, ...], dtype: type
) -> None:
    array = RNG.integers(0, 255, shape).astype(dtype)
    result = napari_cvsuite.segment(array, model=whole_model, device="cpu")
    rgb = shape[-1] == 3
    assert result.classes.shape == (shape[:2] if rgb else shape)
    assert result.provenance["halo"] == 0 and result.provenance["tile"] == 96


def test_probabilities_are_those_of_the_network_enlarged(whole_model: str) -> None:
    pixels = RNG.integers(0, 255, (130, 90, 3), dtype=np.uint8)
    result = napari_cvsuite.segment(pixels, model=whole_model, device="cpu")
    card = Catalogue().get(whole_model)
    with default_store().lease(card, "cpu", "float32") as network, torch.inference_mode():
        x = torch.from_numpy(network_input(pixels, card.input).transpose(2, 0, 1))[None]
        p = network(x)[0].softmax(dim=1)[:, :, :96, : 90 * 96 // 130]
    expected = F.interpolate(p, (130, 90), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(result.probabilities, expected, atol=2e-3)


def test_a_tile_size_is_warned_about(whole_model: str) -> None:
    from napari_cvsuite.images import Image
    from napari_cvsuite.segmentation.options import PredictOptions
    from napari_cvsuite.segmentation.predict import run

    told: list[str] = []
    image = Image.from_array(RNG.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    run(image, PredictOptions(model=whole_model, tile=64), Context(on_warning=told.append))
    assert any("whole image" in text for text in told)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"colour": "ycrcb"}, "needs input.mode 'resize'"), ({"mode": "resize", "scale": 2.0}, "1")],
)
def test_inputs_that_nothing_computes_are_no_cards(fields: dict[str, object], said: str) -> None:
    with pytest.raises(CardError, match=said):
        InputSpec(**fields)  # type: ignore[arg-type]
