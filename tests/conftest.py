"""Shared fixtures: a private user folder, and a small random model in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session", autouse=True)
def threads() -> int:
    """Compute with as many threads as every door does, since provenance states them."""
    from napari_cvsuite.models.device import limit_threads

    return limit_threads()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's own models."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(folder))
    monkeypatch.delenv("NAPARI_CVSUITE_WEIGHTS", raising=False)
    monkeypatch.delenv("NAPARI_CVSUITE_MIRROR", raising=False)
    return folder


@pytest.fixture
def tiny_model(home: Path, tmp_path: Path) -> Iterator[str]:
    """Install a width-4 network with random weights and return its name."""
    import torch
    from safetensors.torch import save_file

    from napari_cvsuite.models import store
    from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig
    from napari_cvsuite.models.weights import import_file

    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_file(QTSeg(QTSegConfig(n_channel=4)).state_dict(), path)
    yield import_file(path).name
    store.default_store().evict_all()


def _install_quality(path: Path, use_ref: bool) -> str:
    """Install a narrow TOPIQ network with random weights and return its name."""
    import torch
    from safetensors.torch import save_file

    from napari_cvsuite.models.topiq import CFANet, TopiqConfig
    from napari_cvsuite.models.weights import import_file
    from napari_cvsuite.quality.series import KINDS

    torch.manual_seed(0)
    config = TopiqConfig(
        semantic_model_name="resnet10_compact",
        use_ref=use_ref,
        inter_dim=16,
        num_heads=2,
        gate_channels=8,
        distortions=len(KINDS),
        fix_norms=False,
    )
    save_file(CFANet(config).state_dict(), path)
    given = {"options": config.to_dict(), "classes": list(KINDS)}
    return import_file(path, given).name


@pytest.fixture
def tiny_quality_model(home: Path, tmp_path: Path) -> Iterator[str]:
    """Install a quality network that needs no reference, and return its name."""
    from napari_cvsuite.models import store

    yield _install_quality(tmp_path / "tiny-quality.safetensors", use_ref=False)
    store.default_store().evict_all()


@pytest.fixture
def tiny_comparing_model(home: Path, tmp_path: Path) -> Iterator[str]:
    """Install a quality network that compares with a reference, and return its name."""
    from napari_cvsuite.models import store

    yield _install_quality(tmp_path / "tiny-comparing.safetensors", use_ref=True)
    store.default_store().evict_all()


def _install_classifier(path: Path, seed: int) -> str:
    """Install a classifier of three kinds of animals with random weights; return its name."""
    import torch
    from safetensors.torch import save_file

    from napari_cvsuite.models.cnn import Classifier, build
    from napari_cvsuite.models.weights import import_file

    torch.manual_seed(seed)
    network = Classifier(build("alexnet-small", 3), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    save_file(network.state_dict(), path)
    return import_file(path, {"classes": ["cat", "dog", "bird"]}).name


@pytest.fixture
def tiny_classifier(home: Path, tmp_path: Path) -> Iterator[str]:
    """Install a small classifier that sees 32 x 32 pixels, and return its name."""
    from napari_cvsuite.models import store

    yield _install_classifier(tmp_path / "tiny-pair-s.safetensors", 0)
    store.default_store().evict_all()


@pytest.fixture
def other_classifier(home: Path, tmp_path: Path) -> Iterator[str]:
    """Install a classifier that makes a pair with :func:`tiny_classifier`; return its name."""
    from napari_cvsuite.models import store

    yield _install_classifier(tmp_path / "tiny-pair-r.safetensors", 1)
    store.default_store().evict_all()


def _install_transformer(path: Path, seed: int, **changes: object) -> str:
    """Install a vision transformer of two layers with random weights; return its name."""
    import torch
    from safetensors.torch import save_file

    from napari_cvsuite.models.cnn import Classifier
    from napari_cvsuite.models.vit import build
    from napari_cvsuite.models.weights import import_file

    torch.manual_seed(seed)
    config = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_dim": 12,
        "num_layers": 2,
        "num_heads": 3,
        "mlp_dim": 16,
        "num_classes": 3,
        **changes,
    }
    model = build(config)
    with torch.no_grad():
        # What is zero or tiny at the start of a training would hide mistakes.
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    network = Classifier(model, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    save_file(network.state_dict(), path)
    options = {**model.config.to_dict(), "resize": 32}
    classes = ["cat", "dog", "bird"][: model.config.num_classes]
    return import_file(path, {"classes": classes, "options": options}).name


@pytest.fixture
def install_transformer(home: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return what installs a small vision transformer by a name, with changes of its shape."""
    from napari_cvsuite.models import store

    def install(name: str = "tiny-vit", seed: int = 0, **changes: object) -> str:
        return _install_transformer(tmp_path / f"{name}.safetensors", seed, **changes)

    yield install
    store.default_store().evict_all()


@pytest.fixture
def tiny_transformer(install_transformer: Callable[..., str]) -> str:
    """Install a vision transformer that sees 32 x 32 pixels in 4 x 4 patches; return its name."""
    return install_transformer()


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Write twelve noisy images of each of three classes into a folder of folders."""
    import numpy as np
    from PIL import Image as Picture

    rng = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "bird")):
        folder = tmp_path / "animals" / name
        folder.mkdir(parents=True)
        for image in range(12):
            pixels = rng.integers(0, 120, (40, 36, 3), np.uint8)
            pixels[..., number] += 120
            Picture.fromarray(pixels).save(folder / f"{image:02}.png")
    return tmp_path / "animals"
