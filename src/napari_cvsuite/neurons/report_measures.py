"""The measurements of the report on a pair of classifiers.

Networks come in pairs, the standard one S first; but for accuracy as a whole all is measured on
the images that both name rightly, as Chen et al. 2020 (arXiv 2006.09373) do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.ablation import channel_errors
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.channels import distinct_classes, top_images
from napari_cvsuite.neurons.control_accuracy import batches
from napari_cvsuite.neurons.controls import gaussian_noise
from napari_cvsuite.neurons.gradients import gradient
from napari_cvsuite.neurons.options import ReportOptions
from napari_cvsuite.neurons.report_accuracy import Networks
from napari_cvsuite.neurons.report_parts import (
    AblationPart,
    ActivationRow,
    DiversityPart,
    DiversityRow,
    Examples,
    KernelRow,
    NoisePart,
    NoiseRow,
    SaliencyRow,
    SilencedRow,
)
from napari_cvsuite.neurons.saliency import signed_map
from napari_cvsuite.neurons.smoothness import (
    LayerResponse,
    kernel_smoothness,
    mean_smoothness,
    noise_response,
    outlier_channels,
    saliency_tv,
)
from napari_cvsuite.reports.intervals import DRAWS, Interval, bootstrap_mean
from napari_cvsuite.training.labelled import Labelled, tensors

__all__ = [
    "Responses",
    "ablation",
    "activation_rows",
    "diversity",
    "kernels",
    "noise",
    "responses",
    "saliency",
]

BLOCKS = 25
"""Blocks of images that the bootstrap of noise draws from: sums of single images would not fit."""
EXAMPLES = 6
CHUNK = 256
"""Images of which channels are silenced at a time."""


def kernels(networks: Networks) -> tuple[tuple[KernelRow, ...], KernelRow]:
    """Return the smoothness of the kernels of every convolution larger than 1 x 1, and the mean.

    Raises
    ------
    ValueError
        There is no such convolution, or the networks differ.
    """
    wide = [
        name
        for name, layer in networks[0].named_modules()
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1
    ]
    if not wide:
        raise ValueError("the networks have no convolution of more than 1 x 1; choose another pair")
    S, R = (kernel_smoothness(one) for one in networks)
    rows = tuple(KernelRow(name.removeprefix("model."), S[name], R[name]) for name in wide)
    first, second = (mean_smoothness({name: one[name] for name in wide}) for one in (S, R))
    return rows, KernelRow("mean", first, second)


@dataclass(frozen=True)
class Responses:
    """What noise does to the layers of a network, in blocks of images.

    Parameters
    ----------
    blocks : dict of str to list of LayerResponse
    sizes : ndarray of int64, shape (B,)
        Images of each block.
    cells : dict of str to int
        Positions of a map of each layer.
    """

    blocks: dict[str, list[LayerResponse]]
    sizes: NDArray[np.int64]
    cells: dict[str, int]

    def pooled(self, layer: str) -> LayerResponse:
        """Return the response of all images."""
        weights = torch.from_numpy(self.sizes / self.sizes.sum())
        parts = self.blocks[layer]
        means = [
            (torch.stack([getattr(one, name) for one in parts]) * weights[:, None]).sum(0)
            for name in ("clean", "noisy", "activation", "change")
        ]
        return LayerResponse(*means)

    def sums(self, layer: str) -> NDArray[np.float64]:
        """Return change and activation of every block, shape (2, B), on the scale of sums."""
        found = [
            [float(getattr(one, name).mean()) for one in self.blocks[layer]]
            for name in ("change", "activation")
        ]
        return np.array(found) * self.sizes


def responses(
    network: nn.Module,
    layers: Sequence[str],
    data: Labelled,
    options: ReportOptions,
    context: Context,
) -> Responses:
    """Compare what layers give for images and noisy copies, block by block."""
    device = next(network.parameters()).device
    found: dict[str, list[LayerResponse]] = {layer: [] for layer in layers}
    blocks = np.array_split(np.arange(len(data)), min(BLOCKS, len(data)))
    for number, block in enumerate(blocks):
        context.progress(number, len(blocks), "noise")
        x = tensors(data.images[block]).to(device)
        noisy = gaussian_noise(x, options.sigma, options.seed + int(block[0]))
        inner = Context(token=context.token)
        for layer, one in noise_response(network, x, noisy, layers, options.batch, inner).items():
            found[layer].append(one)
    maps = activations(network, tensors(data.images[:1]), layers)
    cells = {layer: one[0, 0].numel() for layer, one in maps.items()}
    return Responses(found, np.array([len(block) for block in blocks]), cells)


def noise(found: tuple[Responses, Responses], options: ReportOptions) -> NoisePart:
    """Return the relative change of each layer under noise, with bootstrap intervals."""
    sizes = found[0].sizes
    drawn = np.random.default_rng(options.seed).integers(len(sizes), size=(DRAWS, len(sizes)))
    rows = []
    for layer in found[0].blocks:
        sums = [one.sums(layer) for one in found]
        value = [float(change.sum() / activation.sum()) for change, activation in sums]
        # S and R saw the same images and noise, so they are drawn together.
        S, R = (part[0][drawn].sum(axis=1) / part[1][drawn].sum(axis=1) for part in sums)
        change = (_interval(value[0], S), _interval(value[1], R))
        ratio = _interval(value[1] / value[0], R / S)
        tv = [one.pooled(layer).layer_ratio for one in found]
        rows.append(NoiseRow(layer.removeprefix("model."), change, ratio, (tv[0], tv[1])))
    return NoisePart(options.sigma, int(sizes.sum()), tuple(rows))


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def activation_rows(found: tuple[Responses, Responses]) -> tuple[ActivationRow, ...]:
    """Return how smooth the activations of each layer are, and its outliers under noise."""
    rows = []
    for layer, cells in found[0].cells.items():
        S, R = (one.pooled(layer) for one in found)
        tv = [float(one.clean.mean()) for one in (S, R)]
        magnitude = [float(one.activation.mean()) * cells for one in (S, R)]
        outliers = [int(outlier_channels(one, S).sum()) for one in (S, R)]
        rows.append(
            ActivationRow(
                layer.removeprefix("model."),
                len(S.clean),
                (tv[0], tv[1]),
                (tv[0] / magnitude[0], tv[1] / magnitude[1]),
                (outliers[0], outliers[1]),
            )
        )
    return tuple(rows)


class _Predicted(nn.Module):
    """A network whose output is the largest logit, one number an image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        largest: Tensor = self.network(images).max(dim=1).values
        return largest


def saliency(
    networks: Networks, data: Labelled, options: ReportOptions, context: Context
) -> tuple[tuple[SaliencyRow, ...], Examples]:
    """Measure the signed gradient maps of the predicted class, and keep a few."""
    rows: dict[str, list[Interval]] = {"TV of the map": [], "length of the gradient": []}
    kept = []
    for number, network in enumerate(networks):
        variation, length, maps = [], [], []
        inner = context.part(number, 2, "saliency")
        for first, x, _ in batches(network, data, options.batch, inner):
            grad = gradient(_Predicted(network), x)
            shown = signed_map(grad)
            variation.append(saliency_tv(shown).cpu().double().numpy())
            length.append(grad.flatten(1).norm(dim=1).cpu().double().numpy())
            maps += list(shown[: max(0, EXAMPLES - first)].float().cpu().numpy())
        for found, values in zip(rows.values(), (variation, length), strict=True):
            found.append(bootstrap_mean(np.concatenate(values), options.seed))
        kept.append(np.stack(maps))
    measured = tuple(SaliencyRow(name, *found) for name, found in rows.items())
    return measured, Examples(data.images[:EXAMPLES], kept[0], kept[1])


def diversity(
    networks: Networks,
    layers: Sequence[str],
    data: Labelled,
    options: ReportOptions,
    context: Context,
) -> DiversityPart:
    """Count the classes among the images that excite each channel most.

    Definition of this project. Channels that are the same for all images are left out, and of the
    others the images at which they are at their least, mostly silent.
    """
    top = min(options.top, max(2, len(data) // 4))
    counts: list[dict[str, NDArray[np.float64]]] = []
    for number, network in enumerate(networks):
        peaks: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
        inner = context.part(number, 2, "classes")
        for _, x, _ in batches(network, data, options.batch, inner):
            for layer, maps in activations(network, x, layers).items():
                peaks[layer].append(maps.amax((2, 3)).float().cpu().numpy())
        counts.append(
            {
                layer.removeprefix("model."): _classes(np.concatenate(found), data, top)
                for layer, found in peaks.items()
            }
        )
    S, R = counts
    rows = tuple(_diversity_row(layer, S[layer], R[layer], options.seed) for layer in S)
    every = [np.concatenate(list(one.values())) for one in counts]
    total = _diversity_row("all", every[0], every[1], options.seed)
    return DiversityPart(top, len(data), len(np.unique(data.labels)), rows, total)


def _classes(peaks: NDArray[np.float32], data: Labelled, top: int) -> NDArray[np.float64]:
    """Return the classes among the top images of each channel that responds."""
    lively = peaks[:, peaks.max(axis=0) > peaks.min(axis=0)]
    if not lively.size:
        return np.zeros(0)
    found = top_images(lively[:, :, None, None], top)
    # A silent image does not count: in its place the first one is counted again.
    responds = found.value > lively.min(axis=0)[:, None]
    index = np.where(responds, found.index, found.index[:, :1])
    return distinct_classes(index, data.labels.tolist()).astype(np.float64)


def _diversity_row(
    layer: str, S: NDArray[np.float64], R: NDArray[np.float64], seed: int
) -> DiversityRow:
    return DiversityRow(layer, (len(S), len(R)), (bootstrap_mean(S, seed), bootstrap_mean(R, seed)))


def ablation(
    networks: Networks, layer: str, data: Labelled, options: ReportOptions, context: Context
) -> AblationPart:
    """Set each channel of a layer to zero in turn, and count the errors."""
    rows = []
    chunks = -(-len(data) // CHUNK)
    for number, network in enumerate(networks):
        wrong = torch.zeros(1, dtype=torch.float64)
        alone = Context(token=context.token)
        for place, (_, x, labels) in enumerate(batches(network, data, CHUNK, alone)):
            inner = context.part(number * chunks + place, 2 * chunks, "silencing")
            wrong = wrong + channel_errors(network, x, labels, layer, context=inner).error * len(x)
        errors = (wrong / len(data)).numpy()
        mean = bootstrap_mean(errors, options.seed)
        rows.append(SilencedRow(errors, mean, float(errors.max()), int(errors.argmax())))
    return AblationPart(layer.removeprefix("model."), len(data), rows[0], rows[1])
