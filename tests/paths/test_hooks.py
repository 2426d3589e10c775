"""Nothing depends on hooks, which fused attention would pass by in silence, or on a compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths import combine, decompose, intervene, replace, views
from napari_cvsuite.paths.variants import TOTALS

REGISTERS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)


def test_the_core_registers_no_hook(
    network: Callable[..., VisionTransformer], x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a hook was registered")

    for name in REGISTERS:
        monkeypatch.setattr(nn.Module, name, refuse)
    monkeypatch.setattr(Tensor, "register_hook", refuse)
    model = network()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        plain = model(x)
    paths = decompose.collect(model, x)
    decompose.source_direct(model, paths)
    other = replace.writes_of(model, paths, heads=True)
    for kind in TOTALS:
        intervene.total(model, paths, kind, other)
    intervene.attribution_patching(model, x, [0])
    views.cls_attention(model, paths)
    views.rollout(model, paths)
    views.chefer(model, x)
    rows = combine.rows_from(model, paths, torch.tensor([0, 1]))
    combine.greedy_prune(model, rows)
    combine.fit_scale(model, rows, steps=2)
    with torch.no_grad():
        assert torch.equal(model(x), plain)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_core_loads_no_compiler() -> None:
    # Its LLVM crashes beside the one of Mesa's software OpenGL, which napari may have loaded.
    code = (
        "import sys, torch\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from conftest import made\n"
        "from napari_cvsuite.paths import combine, decompose, intervene, views\n"
        "model, x = made(), torch.randn(2, 3, 16, 16)\n"
        "paths = decompose.collect(model, x)\n"
        "decompose.source_direct(model, paths)\n"
        "intervene.total(model, paths, 'total_module', grow=True)\n"
        "intervene.attribution_patching(model, x, [1])\n"
        "views.chefer(model, x), views.rollout(model, paths), views.fourier(model, paths)\n"
        "rows = combine.rows_from(model, paths, torch.tensor([0, 1]))\n"
        "alpha = combine.fit_scale(model, rows, steps=2).alpha\n"
        "combine.folded(combine.with_scale(model, alpha, 'stream'))\n"
        "combine.greedy_prune(model, rows)\n"
        "bad = {'torch._dynamo', 'torchvision', 'triton'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_IN_NAPARI = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image as Picture
from skimage.data import cat
from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.paths import (
    contributions, counting, depth, files, frequency, influence, maps, pruning, scaling, whatif
)
from napari_cvsuite.paths import labelled_options as labelled, options
from napari_cvsuite.paths.subject import LabelledInputs

root = Path(sys.argv[1])
image, context = Image.from_array(cat()), Context(device="cpu")
rng = np.random.default_rng(0)
for kind in ("cat", "dog"):
    (root / "pictures" / kind).mkdir(parents=True)
    for number in range(12):
        pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
        Picture.fromarray(pixels).save(root / "pictures" / kind / f"{number}.png")
pictures = LabelledInputs(root / "pictures")

found = contributions.run(image, options.ContributionOptions(), context)
files.write_tabled(found, root / "cat", "contributions")
for one in options.EFFECTS:
    whatif.run(image, options.WhatIfOptions(intervention=one), context)
for kind in options.MAPS:
    files.write_map(maps.run(image, options.MapOptions(kind=kind), context), root / "cat")
depth.run(image, options.TargetOptions(), context)
frequency.run([image], options.FrequencyOptions(off="msa_0"), context)
counting.run(labelled.LengthOptions(), context)
depth.accuracy(pictures, labelled.DepthOptions(), context)
influence.run(pictures, labelled.InfluenceOptions(), context)
pruning.run(pictures, labelled.PruneOptions(), context, root / "pruned")
scaling.run(pictures, labelled.ScaleOptions(steps=2), context, root / "scaled")
assert list((root / "scaled").glob("*.safetensors"))
compilers = {"torch._dynamo", "torch._inductor", "torchvision", "triton"}
bad = compilers & set(sys.modules)
assert not bad, bad
"""


def test_what_the_dock_runs_loads_no_compiler(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IN_NAPARI, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
