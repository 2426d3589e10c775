"""The kit of robust classifiers: whole networks and checkpoint layouts.

Its quantities on a tiny network stand in the tests of the modules that compute them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from kits import load_rule

from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.cnn_weights import build_cnn, read_layout
from napari_cvsuite.models.relu import separate_relus
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.saliency import explain, signed_map
from napari_cvsuite.neurons.smoothness import saliency_tv
from napari_cvsuite.neurons.target import Target

rule = load_rule("robust_cnn")
NETWORKS = [name for name in rule.NAMES if name.startswith("net_")]
# In GoogLeNet and AlexNet the kit names what we name, after its ReLU.
PREFIX = "model."


@functools.cache
def _network(name: str) -> Classifier:
    weights = rule.net_weights(name)
    return build_cnn({k: torch.from_numpy(np.asarray(v)) for k, v in weights.items()}, {})


def _blocks(picture: torch.Tensor) -> np.ndarray[Any, Any]:
    return picture.view(8, 8, 8, 8).mean(dim=(1, 3)).numpy()


def _whole(case: dict[str, Any]) -> dict[str, Any]:
    network, x = _network(case["arch"]), torch.from_numpy(case["x"])
    with torch.inference_mode():
        logits = network(x)[0]
    target = Target(class_index=int(logits.argmax()))
    grad, guided = (explain(network, x, target, one).values for one in ("gradient", "guided"))
    layers = [PREFIX + name for name in rule.LAYERS[case["arch"]]]
    found = activations(network, x, layers)
    return {
        "logits": logits[:10].numpy(),
        "argmax": [target.class_index],
        "grad_blocks": _blocks(grad[0].mean(dim=0)),
        "guided_blocks": _blocks(guided[0].mean(dim=0)),
        "grad_l2": [float(grad.norm())],
        "grad_tv": [float(saliency_tv(signed_map(grad))[0])],
        "acts": np.stack([found[name].mean(dim=(0, 2, 3))[:4].numpy() for name in layers]),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_alexnet_googlenet_and_resnet50(name: str) -> None:
    rule.check({name: _whole})


@pytest.mark.parametrize("name", NETWORKS)
def test_after_the_rewrite_of_relus(name: str) -> None:
    network = _network(name.removeprefix("net_"))
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = network(x)
        assert torch.equal(separate_relus(network)(x), logits)
    first, second = logits[0].topk(2).indices.tolist()
    target = Target(class_index=first, minus=second)
    found = explain(network, x, target, "deeplift")
    assert found.gap is not None and found.gap < 1e-3
    # Both say the same where a ReLU runs as a function, or twice.
    guided, gradient = (explain(network, x, target, one).values for one in ("guided", "gradient"))
    assert float((guided - gradient).norm()) > 0.1 * float(gradient.norm())


def test_every_checkpoint_layout_is_read_and_bad_ones_are_named() -> None:
    rule.check_loader(read_layout, wrap=torch.from_numpy, unwrap=lambda tensor: tensor.numpy())
