"""What a network gets wrong without some of its channels (Chen et al. 2020, arXiv 2006.09373)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.target import (
    checked_images,
    checked_labels,
    checked_network,
    layer_outputs,
)

__all__ = ["MODES", "ChannelErrors", "ablate", "ablate_each", "channel_errors", "channel_means"]

MODES = ("zero", "keep", "mean")
"""Set channels to zero; keep them and set all others to zero; set them to their mean."""


@dataclass(frozen=True)
class ChannelErrors:
    """Errors of a network of which one channel at a time is changed.

    Parameters
    ----------
    plain : float
        Share of images that the unchanged network names wrongly.
    error : Tensor of float64, shape (C,)
        The same for each channel that is changed.
    probability_change : Tensor of float64, shape (C,)
        Mean change of the probability of the true class.
    """

    plain: float
    error: Tensor
    probability_change: Tensor


def ablate(
    network: nn.Module,
    images: Tensor,
    channels: Mapping[str, Sequence[int]],
    mode: str = "zero",
    means: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Run a network with a set of channels changed together.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    images : Tensor of float, shape (B, 3, H, W)
        In [0, 1]; all are run at a time.
    channels : mapping of str to sequence of int
        By layer, a name in ``dict(network.named_modules())``; channels count from 0.
    mode : {"zero", "keep", "mean"}
        See :data:`MODES`; "mean" is a definition of this project.
    means : mapping of str to Tensor of shape (C,), optional
        Of every layer, see :func:`channel_means`; only "mean" needs them.

    Returns
    -------
    Tensor, shape (B, K)
        Logits.

    Raises
    ------
    ValueError
        The images, layers, channels, mode or means cannot be used.
    """
    ready = checked_images(checked_network(network), images)
    edits = {}
    for layer, numbers in channels.items():
        count = _channels(network, layer, ready)
        chosen = torch.zeros(1, count, dtype=torch.bool)
        for number in numbers:
            if not 0 <= number < count:
                raise ValueError(f"layer {layer!r} has channels 0 to {count - 1}; got {number}")
            chosen[0, number] = True
        edits[layer] = _edit(chosen, layer, mode, (means or {}).get(layer))
    return _run(network, ready, edits, branch=False)[0]


def ablate_each(
    network: nn.Module,
    images: Tensor,
    layer: str,
    mode: str = "zero",
    means: Tensor | None = None,
    batch: int = 64,
    context: Context | None = None,
) -> Tensor:
    """Run a network with each channel of a layer changed in turn.

    Parameters
    ----------
    network, images, layer, mode
        See :func:`ablate`.
    means : Tensor, shape (C,), optional
        See :func:`channel_means`; only "mean" needs them.
    batch : int
        Images times channels at a time.
    context : Context, optional

    Returns
    -------
    Tensor, shape (C, B, K)
        Logits, on the device of `images`. For many images see :func:`channel_errors`, which does
        not hold them all.

    Raises
    ------
    ValueError
        The images, layer, mode, means or batch cannot be used.
    """
    rows: dict[int, list[Tensor]] = {}
    for here, _, logits in _sweep(network, images, layer, mode, means, batch, context):
        rows.setdefault(here.start, []).append(logits.to(images.device))
    return torch.cat([torch.cat(parts) for parts in rows.values()], dim=1)


def channel_errors(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    layer: str,
    mode: str = "zero",
    means: Tensor | None = None,
    batch: int = 64,
    context: Context | None = None,
) -> ChannelErrors:
    """Measure a network with each channel of a layer changed in turn.

    Parameters
    ----------
    network, images, layer, mode, means, batch, context
        See :func:`ablate_each`.
    labels : Tensor of int64, shape (B,)
        True classes, 0 to K - 1.

    Raises
    ------
    ValueError
        See :func:`ablate_each`; or there is not one such label for each image.
    """
    ready = checked_images(checked_network(network), images)
    classes = checked_labels(network, ready, labels)
    wrong = torch.zeros(_channels(network, layer, ready), dtype=torch.float64)
    change = torch.zeros_like(wrong)
    plain, probability, seen = 0, torch.zeros(0), -1
    for here, numbers, logits in _sweep(network, ready, layer, mode, means, batch, context):
        truth = classes[here]
        if here.start != seen:
            with torch.no_grad():
                unchanged = network(ready[here])
            plain += int((unchanged.argmax(1) != truth).sum())
            probability, seen = _of_truth(unchanged[None], truth), here.start
        wrong[numbers] += (logits.argmax(2) != truth).sum(1).cpu()
        change[numbers] += (_of_truth(logits, truth) - probability).sum(1).cpu().double()
    return ChannelErrors(plain / len(images), wrong / len(images), change / len(images))


def channel_means(
    network: nn.Module,
    layer: str,
    reference: Tensor,
    batch: int = 64,
    context: Context | None = None,
) -> Tensor:
    """Return the mean of each channel over all positions of reference images.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    layer : str
        A name in ``dict(network.named_modules())``.
    reference : Tensor of float, shape (B, 3, H, W)
        In [0, 1].
    batch : int
        Images at a time.
    context : Context, optional

    Returns
    -------
    Tensor of float64, shape (C,)
        On the CPU.

    Raises
    ------
    ValueError
        The images or layer cannot be used.
    """
    context = context or Context()
    _check_batch(batch)
    ready = checked_images(checked_network(network), reference)
    total = torch.zeros(_channels(network, layer, ready), dtype=torch.float64)
    for start in range(0, len(ready), batch):
        context.progress(start, len(ready), "means of channels")
        with torch.no_grad(), layer_outputs(network, layer) as kept:
            network(ready[start : start + batch])
        cells = kept[0].reshape(*kept[0].shape[:2], -1)
        # Not every device has float64.
        total += cells.mean(2).cpu().double().sum(0)
    return total / len(ready)


_Edit = tuple[Tensor, Tensor]
"""Which channels of each variant are replaced, V x C, and by what, C."""


def _edit(chosen: Tensor, layer: str, mode: str, means: Tensor | None) -> _Edit:
    """Turn chosen channels, V x C, into an edit."""
    if mode not in MODES:
        raise ValueError(f"the mode is one of {', '.join(MODES)}; got {mode!r}")
    count = chosen.shape[1]
    if mode != "mean":
        return ~chosen if mode == "keep" else chosen, torch.zeros(count)
    if means is None or means.shape != (count,) or not bool(means.isfinite().all()):
        raise ValueError(
            f"layer {layer!r} needs the means of its {count} channels; take them from reference "
            "images"
        )
    return chosen, means


def _channels(network: nn.Module, layer: str, images: Tensor) -> int:
    """Return the number of channels of a layer that can be changed."""
    with torch.no_grad(), layer_outputs(network, layer) as kept:
        network(images[:1])
    if len(kept) > 1:
        raise ValueError(
            f"layer {layer!r} runs {len(kept)} times in one pass; choose one that runs once"
        )
    if kept[0].ndim not in (2, 4):
        raise ValueError(
            f"layer {layer!r} gives {tuple(kept[0].shape)}, which has no channels; choose a "
            "convolutional or a linear layer"
        )
    return kept[0].shape[1]


def _run(network: nn.Module, images: Tensor, edits: Mapping[str, _Edit], branch: bool) -> Tensor:
    """Return logits V x B x K of V variants.

    If `branch`, the layer itself gives V variants of what it was given, so that what comes before
    it runs once; else V copies of the images go in.
    """
    variants = next((len(replaced) for replaced, _ in edits.values()), 1)
    with torch.no_grad(), ExitStack() as hooks:
        for layer, (replaced, fill) in edits.items():
            hook = _hook(replaced, fill, branch)
            hooks.callback(network.get_submodule(layer).register_forward_hook(hook).remove)
        logits: Tensor = network(images if branch else images.repeat(variants, 1, 1, 1))
    return logits.reshape(variants, len(images), -1)


def _hook(replaced: Tensor, fill: Tensor, branch: bool) -> Callable[..., Tensor]:
    def change(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        copies = 1 if branch else len(replaced)
        stacked = output.reshape(copies, -1, *output.shape[1:])
        ones = (1,) * (output.ndim - 2)
        where = replaced.to(output.device).view(len(replaced), 1, -1, *ones)
        return torch.where(where, fill.to(output).view(-1, *ones), stacked).flatten(0, 1)

    return change


def _branches(network: nn.Module, image: Tensor, layer: str, edit: _Edit) -> bool:
    """Say whether the network copes with a layer that gives several variants of its input.

    It does not if something else, such as a skip connection, leads around the layer.
    """
    two = torch.cat([image, image.flip(-1)])
    few = {layer: (edit[0][:3], edit[1])}
    try:
        found = _run(network, two, few, branch=True)
    except (RuntimeError, ValueError):
        return False
    wanted = _run(network, two, few, branch=False)
    least = 1e-4 * float(wanted.abs().max())
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=least)


def _sweep(
    network: nn.Module,
    images: Tensor,
    layer: str,
    mode: str,
    means: Tensor | None,
    batch: int,
    context: Context | None,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield images, channels, and the logits (channels, images, K) of changing each of these."""
    context = context or Context()
    _check_batch(batch)
    ready = checked_images(checked_network(network), images)
    count = _channels(network, layer, ready)
    replaced, fill = _edit(torch.eye(count, dtype=torch.bool), layer, mode, means)
    branch = _branches(network, ready[:1], layer, (replaced, fill))
    # Many channels of few images: so the layers before this one run least often.
    variants = min(count, batch)
    together = batch // variants
    for first in range(0, len(ready), together):
        here = slice(first, first + together)
        for number in range(0, count, variants):
            done = first * count + number * len(ready[here])
            context.progress(done, len(ready) * count, f"channels of {layer}")
            numbers = slice(number, number + variants)
            edits = {layer: (replaced[numbers], fill)}
            yield here, numbers, _run(network, ready[here], edits, branch)
    context.progress(len(ready) * count, len(ready) * count, f"channels of {layer}")


def _of_truth(logits: Tensor, truth: Tensor) -> Tensor:
    """Return probabilities V x B of the true classes."""
    index = truth.view(1, -1, 1).expand(len(logits), -1, 1)
    return logits.softmax(2).gather(2, index).squeeze(2)


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise ValueError(f"a batch holds one image or more; got {batch}")
