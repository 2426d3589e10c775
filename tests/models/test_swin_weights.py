"""Swin classifiers: torchvision's numbers, torchvision's files, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.models.adapters import describe
from napari_cvsuite.models.store import build_model
from napari_cvsuite.models.swin_weights import build_swin, looks_like_swin, swin_fields
from napari_cvsuite.models.weights import WeightsError, import_file


def theirs(version: int, window: int = 4) -> nn.Module:
    """Return a small Swin of torchvision's with random weights in every part."""
    from torchvision.models import swin_transformer as swin

    torch.manual_seed(version)
    parts: dict[str, Any] = {}
    if version == 2:
        parts = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
    made: nn.Module = swin.SwinTransformer(
        [2, 2], 16, [2, 1, 2], [2, 4, 8], [window] * 2, 2.0, num_classes=5, **parts
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


def state(version: int = 1) -> dict[str, Tensor]:
    return theirs(version).state_dict()


@pytest.mark.parametrize("version", [1, 2])
# One window at the end; odd sides that are padded; a map no larger than a window; not square.
@pytest.mark.parametrize("sides", [(32, 32), (36, 28), (8, 8), (8, 40)])
def test_logits_are_those_of_torchvision(version: int, sides: tuple[int, int]) -> None:
    network = theirs(version).double()
    made = build_swin(network.state_dict(), {"mean": (0, 0, 0), "std": (1, 1, 1)}).double()
    x = torch.rand(2, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(made(x), network(x), rtol=0, atol=5e-6)


def test_published_sizes_are_read_off_the_weights() -> None:
    from torchvision.models import get_model, get_model_weights

    for name, crop in (("swin_t", 224), ("swin_v2_t", 256)):
        with torch.device("meta"):
            found = get_model(name).state_dict()
        fields = swin_fields({k: torch.empty(v.shape, dtype=v.dtype) for k, v in found.items()}, {})
        assert fields["input"].tile == crop and len(fields["classes"]) == 1000
        row = get_model_weights(name)["IMAGENET1K_V1"]  # type: ignore[index]
        assert row.transforms().crop_size == [crop]


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_becomes_a_model(tmp_path: Path, version: int) -> None:
    network = theirs(version)
    found = network.state_dict()
    # Tables follow from the sizes; some files leave them out, or come in a container.
    kept = {k: v for k, v in found.items() if not k.endswith("relative_position_index")}
    torch.save({"model": kept, "epoch": 3}, tmp_path / "mine.pth")
    card = import_file(tmp_path / "mine.pth")
    # Three stages of patches of 2 pixels end in a window of 4 at 2 * 4 * 4 pixels.
    assert (card.architecture, card.task, card.input.tile) == ("swin", "classification", 32)
    assert card.classes == tuple(f"class {k}" for k in range(5)) and card.options["resize"] == 37
    made = build_model(card, "plain")
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        normalised = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
            [0.229, 0.224, 0.225]
        )[:, None, None]
        torch.testing.assert_close(made(x), network(normalised), rtol=1e-4, atol=1e-4)


def test_options_that_weights_do_not_show() -> None:
    assert swin_fields(state(), {"image_size": 64})["input"].tile == 64
    for side in (7, 64.0, "64", True):
        with pytest.raises(WeightsError, match="image_size must be a number of pixels from 8"):
            swin_fields(state(), {"image_size": side})
    with pytest.raises(WeightsError, match="no options num_heads"):
        build_swin(state(), {"num_heads": 2})


def test_broken_files_are_refused() -> None:
    whole = state()
    assert looks_like_swin(whole)
    headless = {k: v for k, v in whole.items() if not k.startswith("head.")}
    with pytest.raises(WeightsError, match=r"not a whole Swin transformer: 'head.weight'"):
        build_swin(headless, {})
    with pytest.raises(WeightsError, match=r"missing features\.3\.0\.norm1\.weight"):
        build_swin({k: v for k, v in whole.items() if k != "features.3.0.norm1.weight"}, {})
    with pytest.raises(WeightsError, match=r"features\.2\.norm\.bias has shape \(3,\)"):
        build_swin({**whole, "features.2.norm.bias": torch.zeros(3)}, {})
    table = "features.1.0.attn.relative_position_bias_table"
    with pytest.raises(WeightsError, match="3 heads do not divide 16 channels"):
        build_swin({**whole, table: torch.zeros(49, 3)}, {})
    with pytest.raises(WeightsError, match="not a whole Swin"):
        build_swin({**whole, table: torch.zeros(49)}, {})
    card = describe(whole, "mine", {"classes": ["benign", "malignant"]}, b"")
    assert card.architecture == "swin"


def test_no_compiler_is_loaded(tmp_path: Path) -> None:
    torch.save(state(2), tmp_path / "mine.pth")
    code = (
        "import sys, torch; from napari_cvsuite.models.swin_weights import build_swin; "
        f"made = build_swin(torch.load({str(tmp_path / 'mine.pth')!r}), {{}}); "
        "made(torch.rand(1, 3, 32, 32)); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
