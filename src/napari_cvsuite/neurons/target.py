"""What is explained: a class, a difference of two, or a neuron; and its value for each image."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = [
    "Scores",
    "Target",
    "checked_images",
    "checked_labels",
    "checked_network",
    "layer_outputs",
]


@dataclass(frozen=True)
class Target:
    """One number that a network computes of an image.

    Parameters
    ----------
    class_index : int, optional
        The logit of this class, from 0.
    minus : int, optional
        A class whose logit is subtracted.
    layer : str, optional
        In place of a class, a neuron of this layer, by its name in the network.
    channel : int, optional
        Channel of the layer, from 0.
    position : tuple of int, optional
        Row and column in the layer's output; left out, the mean over all positions is taken.

    Raises
    ------
    ValueError
        Neither a class nor a neuron is named, or both.
    """

    class_index: int | None = None
    minus: int | None = None
    layer: str | None = None
    channel: int | None = None
    position: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.class_index is None) == (self.layer is None):
            raise ValueError("name either a class or a layer and a channel as the target")
        if self.layer is not None and (self.channel is None or self.minus is not None):
            raise ValueError("a neuron is a layer and a channel, and perhaps a position")
        if self.layer is None and (self.channel is not None or self.position is not None):
            raise ValueError("a channel or a position needs the name of its layer")


class Scores(nn.Module):
    """A network whose output is the target, one number an image.

    Parameters
    ----------
    network : nn.Module
        Maps ``B x 3 x H x W`` in [0, 1] to logits ``B x K``; in eval mode.
    target : Target

    Raises
    ------
    ValueError
        There is no such layer; when called: no such class, channel or position.
    """

    def __init__(self, network: nn.Module, target: Target) -> None:
        super().__init__()
        self.network = checked_network(network)
        self.target = target
        self.training = False
        if target.layer is not None:
            _layer(network, target.layer)

    def forward(self, images: Tensor) -> Tensor:
        """Return the target of images ``B x 3 x H x W`` as ``B``."""
        if self.target.layer is None:
            return _of_classes(self.network(images), self.target)
        with layer_outputs(self.network, self.target.layer) as kept:
            self.network(images)
        return _of_neuron(kept[-1], self.target)


@contextmanager
def layer_outputs(network: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """Collect the outputs of a layer while the network runs.

    Parameters
    ----------
    network : nn.Module
    layer : str
        A name in ``dict(network.named_modules())``.

    Yields
    ------
    list of Tensor
        One for each call, in order; they stay part of the computation that gradients follow.

    Raises
    ------
    ValueError
        There is no such layer, it was not called, or its output is not a tensor.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise ValueError(f"layer {layer!r} gives several tensors; choose a layer inside it")
        kept.append(output)
        # The next layer may be an in-place ReLU, which would overwrite what was kept.
        return output.clone()

    handle = _layer(network, layer).register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()
    if not kept:
        raise ValueError(f"the network does not use its layer {layer!r}; choose another")


def checked_network(network: nn.Module) -> nn.Module:
    """Return `network`; raise ValueError if it is in training mode."""
    if network.training:
        raise ValueError("the network is in training mode; call its eval() first")
    return network


def checked_images(network: nn.Module, images: Tensor) -> Tensor:
    """Return images on the device and in the number format of the network.

    Parameters
    ----------
    network : nn.Module
    images : Tensor, shape (B, 3, H, W)
        In [0, 1].

    Raises
    ------
    ValueError
        The shape is another, there is no image, or a value is not in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise ValueError(
            f"images must have the shape B x 3 x H x W, with one image or more; "
            f"got {' x '.join(map(str, images.shape))}"
        )
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1]; got {images.dtype}")
    low, high = float(images.min()), float(images.max())
    # Written so that NaN fails as well.
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images must lie in [0, 1], without NaN; these have {low:g} to {high:g}: divide them "
            "by the largest value of their type"
        )
    weight = next(network.parameters(), images)
    return images.detach().to(weight.device, weight.dtype)


def _layer(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    if name not in modules or not name:
        near = difflib.get_close_matches(name, modules, n=3, cutoff=0.4) or list(modules)[1:6]
        raise ValueError(f"there is no layer {name!r}; the network has {', '.join(near)}")
    return modules[name]


def _of_classes(logits: Tensor, target: Target) -> Tensor:
    if logits.ndim != 2:
        raise ValueError(f"a classifier gives logits B x K; this one gives {tuple(logits.shape)}")
    for index in (target.class_index, target.minus):
        if index is not None and not 0 <= index < logits.shape[1]:
            raise ValueError(f"class {index} is not one of 0 to {logits.shape[1] - 1}")
    score = logits[:, target.class_index]
    return score if target.minus is None else score - logits[:, target.minus]


def _of_neuron(output: Tensor, target: Target) -> Tensor:
    if output.ndim not in (2, 4):
        raise ValueError(f"layer {target.layer!r} has no channels; choose a convolution or linear")
    assert target.channel is not None
    if not 0 <= target.channel < output.shape[1]:
        raise ValueError(
            f"channel {target.channel} of layer {target.layer!r} is not one of "
            f"0 to {output.shape[1] - 1}"
        )
    channel = output[:, target.channel]
    if target.position is None:
        return channel.flatten(1).mean(1) if channel.ndim > 1 else channel
    y, x = target.position
    if output.ndim == 2 or not (0 <= y < output.shape[2] and 0 <= x < output.shape[3]):
        size = " x ".join(map(str, output.shape[2:])) or "1"
        raise ValueError(f"layer {target.layer!r} has {size} positions; ({y}, {x}) is not in it")
    return channel[:, y, x]


def checked_labels(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return labels on the device of images.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    images : Tensor of float, shape (B, 3, H, W)
        On the network's device.
    labels : Tensor of int64, shape (B,)

    Raises
    ------
    ValueError
        There is not one label for each image, or one is no class of the network.
    """
    with torch.no_grad():
        classes = network(images[:1]).shape[1]
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"give one label of type int64 for each of the {len(images)} images; got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"labels must lie between 0 and {classes - 1}, the classes of the network; got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return labels.to(images.device)
