"""What the report measures with the network itself: exactness of the sums, and frequencies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import (
    Paths,
    bias_direct,
    collect,
    direct,
    head_direct,
    source_direct,
)
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.fourier import fourier, fourier_curve
from napari_cvsuite.paths.frequency import Frequencies
from napari_cvsuite.paths.report_parts import CheckPart, Filter, FrequencyPart
from napari_cvsuite.paths.rows import combined
from napari_cvsuite.paths.subject import batches, names_of, quietly, transformer
from napari_cvsuite.reports.claims import Skipped
from napari_cvsuite.reports.intervals import bootstrap_mean
from napari_cvsuite.training.labelled import Labelled

__all__ = ["check", "frequencies"]

BATCH = 8
"""Images at a time: shares of source tokens take much memory."""


def check(subject: Subject, data: Labelled, context: Context) -> CheckPart:
    """Compare all sums of shares with what they add up to.

    Raises
    ------
    NotDecomposableError
        The network's head is all zero.
    Cancelled
    """
    model = transformer(subject)
    worst = dict.fromkeys(("largest", "paths", "heads", "sources", "parts"), 0.0)
    unit = ""
    for x, _ in batches(data, BATCH, subject, context):
        paths = collect(model, x, quietly(context))
        unit = paths.unit
        for name, value in _differences(model, x, paths, quietly(context)).items():
            worst[name] = max(worst[name], value)
    return CheckPart(images=len(data), unit=unit, **worst)


@exact()
def _differences(
    model: VisionTransformer, x: Tensor, paths: Paths, context: Context
) -> dict[str, float]:
    shares = direct(model, paths)
    attention = shares[1:-1:2] - bias_direct(model, paths)
    differences = {
        "largest": paths.observed,
        "paths": shares.sum(dim=0) - paths.observed,
        "heads": head_direct(model, paths).sum(dim=1) - attention,
        "sources": source_direct(model, paths, context=context).sum(dim=1) - attention,
        "parts": model(x) - paths.logits,
    }
    return {name: float(values.abs().max()) for name, values in differences.items()}


def frequencies(
    subject: Subject,
    data: Labelled,
    combinations: Mapping[str, NDArray[np.float32]],
    seed: int,
    context: Context,
) -> FrequencyPart | Skipped:
    """Measure the frequencies of all paths, of the sum, and of sums that are combined anew.

    Parameters
    ----------
    subject : Subject
    data : Labelled
    combinations : mapping of str to ndarray, shape (P,) or (P, D)
        Weights of the paths in the final sum, by name.
    seed : int
        Of the intervals.
    context : Context

    Raises
    ------
    Cancelled
    """
    model = transformer(subject)
    side, prefix = model.config.grid, model.config.prefix
    if side < 3:
        return Skipped(f"The network has {side} x {side} patches, which know no frequency.")
    weights = {name: torch.from_numpy(alpha) for name, alpha in combinations.items()}
    of_paths = torch.zeros(())
    of_sums: dict[str, list[Tensor]] = {name: [] for name in ("whole", *weights)}
    for x, _ in batches(data, BATCH, subject, context):
        paths = collect(model, x, quietly(context))
        of_paths = of_paths + len(x) * fourier(model, paths).double().cpu()
        writes = torch.stack([write[:, prefix:] for write in paths.writes])
        of_sums["whole"].append(_each(paths.final[:, prefix:]))
        for name, alpha in weights.items():
            of_sums[name].append(_each(combined(writes, alpha.to(writes))))
    curves = {name: torch.cat(parts).numpy() for name, parts in of_sums.items()}
    whole = curves["whole"]
    filters = tuple(
        _filter(name, curves[name], whole, bool((combinations[name] != 1).any()), seed)
        for name in combinations
    )
    return FrequencyPart(
        Frequencies(
            names=names_of(model),
            frequencies=(np.arange(whole.shape[1]) / side).astype(np.float32),
            curves=(of_paths / len(data)).float().numpy(),
            whole=whole.mean(axis=0).astype(np.float32),
            off=(),
            without=None,
            effect="",
            words="",
            images=len(data),
            provenance={},
        ),
        filters,
    )


def _each(tokens: Tensor) -> Tensor:
    """Return the curve of each image, ``B x F``."""
    return torch.stack([fourier_curve(one[None]) for one in tokens]).double().cpu()


def _filter(
    name: str,
    curves: NDArray[np.float64],
    whole: NDArray[np.float64],
    changed: bool,
    seed: int,
) -> Filter:
    change = curves - whole
    upper = change[:, max(1, change.shape[1] // 2) :].mean(axis=1)
    mean = curves.mean(axis=0).astype(np.float32)
    return Filter(name, mean, bootstrap_mean(upper, seed), changed)
