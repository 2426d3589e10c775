from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_cvsuite.models.adapters import load_qtseg
from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig, build
from napari_cvsuite.models.weights import WeightsError, write_safetensors


def test_same_output_as_the_saved_network(tmp_path: Path) -> None:
    model = build(2, 8)
    path = write_safetensors(model.state_dict(), tmp_path / "w.safetensors", half=False)
    seed = torch.get_rng_state()
    loaded = load_qtseg(path)
    assert torch.equal(seed, torch.get_rng_state()) and not loaded.training
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x)[0], loaded(x)[0])
    (tmp_path / "cfg.json").write_text(json.dumps({"model": {"bridge": "MLFF"}}))
    assert load_qtseg(path, num_heads=4).config.num_heads == 4
    (tmp_path / "cfg.json").write_text(json.dumps({"bridge": "Identity"}))
    with pytest.raises(WeightsError, match="bridge"):
        load_qtseg(path)


def test_loading_imports_no_compiler() -> None:
    code = (
        "import sys\n"
        "from napari_cvsuite.models.adapters import build_qtseg\n"
        "from napari_cvsuite.models.qtseg import build\n"
        "build_qtseg(build(2, 8).state_dict())\n"
        "bad = {'sympy', 'torch._dynamo', 'triton'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_half_and_identity_bridge(tmp_path: Path) -> None:
    model = QTSeg(QTSegConfig(num_classes=1, n_channel=8, bridge="Identity", mask_depths=(1, 1, 1)))
    path = write_safetensors(model.state_dict(), tmp_path / "w.safetensors")
    loaded = load_qtseg(path)
    assert loaded.config == model.config
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_refusals(tmp_path: Path) -> None:
    state = build(2, 8).state_dict()
    path = tmp_path / "w.pt"
    torch.save({k: v for k, v in state.items() if k.startswith("image_encoder.")}, path)
    with pytest.raises(WeightsError, match="only the image encoder"):
        load_qtseg(path)
    lost = next(k for k in state if "c2f_21" in k)
    torch.save({**{k: v for k, v in state.items() if k != lost}, "odd.key": torch.ones(1)}, path)
    with pytest.raises(WeightsError) as caught:
        load_qtseg(path)
    assert f"missing {lost}" in str(caught.value) and "unexpected odd.key" in str(caught.value)
    torch.save({**state, lost: torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="has shape"):
        load_qtseg(path)
