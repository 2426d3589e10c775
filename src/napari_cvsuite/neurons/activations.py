"""What the layers of a network give, and where it lies on the image."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "activations",
    "check_maps",
    "conv_layers",
    "find_layer",
    "recording",
]

BLANK = 64
"""Side in pixels of the blank image that shows how a network runs."""


def activations(network: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Run a network and return the outputs of some of its layers.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    images : Tensor of float, shape (B, 3, H, W)
        In [0, 1]; moved to the network's device and type.
    layers : sequence of str
        Names as in ``network.named_modules()``.

    Returns
    -------
    dict of str to Tensor, shape (B, C, h, w)
        Copies, without gradient, on the network's device. Of a layer that runs several times in
        one pass the last output.

    Raises
    ------
    ValueError
        There is no layer of that name, it does not run, or its output is no stack of maps; the
        images have another shape, or values that are not finite.
    """
    with recording(network, layers) as found, torch.no_grad():
        network(_prepared(network, images))
    check_maps(network, layers, found)
    return found


@contextmanager
def recording(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collect the outputs of layers in every pass inside the ``with`` block.

    Parameters
    ----------
    network : nn.Module
    layers : sequence of str
        Names as in ``network.named_modules()``.

    Yields
    ------
    dict of str to the layer's last output
        A tensor is cloned, as an in-place ReLU that follows would overwrite it.

    Raises
    ------
    ValueError
        There is no layer of that name.
    """
    found: dict[str, Any] = {}

    def keeper(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name] = output.clone() if isinstance(output, Tensor) else output

        return keep

    modules = [(name, find_layer(network, name)) for name in layers]
    hooks = [module.register_forward_hook(keeper(name)) for name, module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Return a layer by name.

    Raises
    ------
    ValueError
        There is none; the message names near ones.
    """
    modules = dict(network.named_modules())
    if name and name in modules:
        return modules[name]
    known = [one for one in modules if one]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
    raise ValueError(f"the network has no layer {name!r}; did you mean {' or '.join(near)}?")


def _prepared(network: nn.Module, images: Tensor) -> Tensor:
    """Return checked images on the network's device and in its type."""
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise ValueError(f"images must have the shape B x 3 x H x W; got {tuple(images.shape)}")
    if not images.is_floating_point() or not bool(images.isfinite().all()):
        raise ValueError("images must be finite floats in [0, 1]; scale them and remove NaN first")
    weight = next(network.parameters(), None)
    return images if weight is None else images.to(weight.device, weight.dtype)


def check_maps(network: nn.Module, layers: Sequence[str], found: dict[str, Any]) -> None:
    """Refuse outputs that are not B x C x H x W.

    Parameters
    ----------
    network : nn.Module
    layers : sequence of str
        Which ones have to be there.
    found : dict of str to output

    Raises
    ------
    ValueError
        An output is missing, or no stack of maps.
    """
    for name in layers:
        if name not in found:
            raise ValueError(f"layer {name!r} does not run; choose one that does")
        output = found[name]
        if not isinstance(output, Tensor) or output.ndim != 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            maps = [one for one, m in network.named_modules() if isinstance(m, nn.Conv2d)]
            raise ValueError(
                f"layer {name!r} gives {shape}, not maps of shape B x C x H x W; choose a "
                f"convolutional layer such as {' or '.join(maps[-2:])}"
            )


def conv_layers(network: nn.Module, image: Tensor | None = None) -> list[str]:
    """Return the layers worth showing, in the order in which they run.

    These are the ReLU modules that run once in a pass and give maps. Of a ReLU that runs several
    times, as in residual blocks, it is the block that ends with it. Without any of them (a network
    that calls functions instead) it is every convolution. Definition of this project.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    image : Tensor of float, shape (1, 3, H, W), optional
        Of a size at which the network runs; blank, of 64 x 64 pixels, if left out.

    Raises
    ------
    ValueError
        The network does not run on the image.
    """
    modules = {name: m for name, m in network.named_modules() if name}
    runs: dict[str, list[Any]] = {}

    def keeper(name: str) -> Callable[..., None]:
        # The outputs themselves are compared below, so they must not be cloned.
        return lambda module, inputs, output: runs.setdefault(name, []).append(output)

    hooks = [module.register_forward_hook(keeper(name)) for name, module in modules.items()]
    blank = torch.zeros(1, 3, BLANK, BLANK) if image is None else image
    try:
        with torch.no_grad():
            network(_prepared(network, blank))
    except RuntimeError as error:
        size = " x ".join(str(side) for side in blank.shape[2:])
        raise ValueError(
            f"the network does not run on an image of {size} pixels; give one of its size: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    maps = [n for n in runs if isinstance(runs[n][-1], Tensor) and runs[n][-1].ndim == 4]
    relus = [name for name in maps if isinstance(modules[name], nn.ReLU)]
    once = {name for name in relus if len(runs[name]) == 1}
    owners = {name: name.rpartition(".")[0] for name in relus if name not in once}
    blocks = {own for name, own in owners.items() if own and runs[own][-1] is runs[name][-1]}
    shown = [name for name in maps if name in once | blocks]
    return shown or [name for name in maps if isinstance(modules[name], nn.Conv2d)]
