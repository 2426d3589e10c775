"""Paths left out of the final sum for good: chosen on some labelled images, checked on others."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.combine import Pruning, greedy_prune, rank_paths
from napari_cvsuite.paths.export import write_variant
from napari_cvsuite.paths.labelled_options import PruneOptions
from napari_cvsuite.paths.rows import Rows, Score, cache_rows, logits_of
from napari_cvsuite.paths.scale import folded, with_scale
from napari_cvsuite.paths.subject import (
    LabelledInputs,
    batches,
    labelled_images,
    model_opened,
    names_of,
    numbers_of,
    provenance,
    quietly,
    transformer,
)
from napari_cvsuite.reports.intervals import Interval, bootstrap_mean
from napari_cvsuite.training.labelled import Labelled, hold_out

__all__ = ["SENTENCE", "PruneStep", "Pruned", "change", "rows_of_images", "run", "weighed"]

SENTENCE = "Pruning may lower accuracy; look at the held-out score."
"""What every door says beside a pruned network."""


@dataclass(frozen=True)
class PruneStep:
    """Scores after one step, of the images of the choice and of those held out.

    Parameters
    ----------
    paths : tuple of str
        What this step left out; none for the start.
    selection, held_out : Score
    """

    paths: tuple[str, ...]
    selection: Score
    held_out: Score


@dataclass(frozen=True)
class Pruned:
    """Outcome of a pruning.

    Parameters
    ----------
    method : str
    steps : tuple of PruneStep
        All that were tried, in their order; the first is the whole sum.
    kept : int
        Steps that are kept: ``steps[kept]`` has the scores of the pruned network.
    removed : tuple of str
        Paths that are left out.
    held_out_change : Interval
        Change of accuracy on the held-out images, with its 95 % interval by a paired bootstrap.
    model : Path or None
        The weight file, if one was written.
    provenance : dict
    """

    method: str
    steps: tuple[PruneStep, ...]
    kept: int
    removed: tuple[str, ...]
    held_out_change: Interval
    model: Path | None
    provenance: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each step."""
        return [
            {
                "step": number,
                "paths": "+".join(step.paths),
                "kept": number <= self.kept,
                "selection_loss": step.selection.loss,
                "selection_accuracy": step.selection.accuracy,
                "held_out_loss": step.held_out.loss,
                "held_out_accuracy": step.held_out.accuracy,
            }
            for number, step in enumerate(self.steps)
        ]


def run(
    inputs: LabelledInputs, options: PruneOptions, context: Context, out: Path | None = None
) -> Pruned:
    """Leave paths out of the final sum, as a part of labelled images suggests.

    Parameters
    ----------
    inputs : LabelledInputs
    options : PruneOptions
    context : Context
    out : Path, optional
        Folder for the pruned network: weights, card and recipe, ready to be imported.

    Raises
    ------
    ValueError, ImageError
        The images or labels cannot be used, or a class has too few of them.
    OptionError
        The network has no such path.
    RowsMemoryError
        So many images take too much memory; the message says how many do not.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with model_opened(options, context) as subject:
        model = transformer(subject)
        by_hand = numbers_of(options.off, model)
        data = labelled_images(inputs, options, subject, context.part(0, 3, "reading"))
        parts = hold_out(data, options.held_out, options.seed)
        kept, held = (
            rows_of_images(part, options.batch, subject, context.part(1, 3, "running"))
            for part in parts
        )
        pruning, sizes = _pruned(model, kept, held, options, by_hand, context.part(2, 3, "pruning"))
        steps = _steps(pruning, sizes, names_of(model))
        chosen = _chosen(steps, options)
        removed = [name for step in steps[: chosen + 1] for name in step.paths]
        alpha = torch.ones(model.config.num_paths)
        alpha[[names_of(model).index(name) for name in removed]] = 0
        made = provenance(
            subject,
            options,
            intervention="removed_final",
            selection_images=len(kept),
            held_out_images=len(held),
        )
        found = Pruned(
            options.method,
            steps,
            chosen,
            tuple(removed),
            change(model, held, alpha, options.seed),
            None,
            made,
        )
        if out is None:
            return found
        return _written(subject, model, found, alpha, out)


def rows_of_images(data: Labelled, size: int, subject: Subject, context: Context) -> Rows:
    """Return what the classifier reads of every path for some images; see :func:`cache_rows`."""
    found = batches(data, size, subject, context)
    return cache_rows(transformer(subject), found, quietly(context))


def change(model: VisionTransformer, rows: Rows, alpha: torch.Tensor, seed: int) -> Interval:
    """Return the change of accuracy that weights of the paths bring, by a paired bootstrap."""
    labels = rows.wanted(model.config.num_classes)
    weights = alpha.to(rows.values)
    with torch.no_grad():
        before = logits_of(model, rows).argmax(dim=1) == labels
        after = logits_of(model, rows, weights).argmax(dim=1) == labels
    return bootstrap_mean((after.double() - before.double()).cpu().numpy(), seed)


def weighed(model: VisionTransformer, alpha: torch.Tensor) -> VisionTransformer:
    """Return a network whose final sum is weighed, weights in its stream folded first."""
    plain = folded(model) if model.in_stream else model
    return with_scale(plain, alpha.to(next(plain.parameters())), "final")


def _pruned(
    model: VisionTransformer,
    kept: Rows,
    held: Rows,
    options: PruneOptions,
    by_hand: list[int],
    context: Context,
) -> tuple[Pruning, list[int]]:
    """Return all removals of a method, and how many of them make a step."""
    if options.method == "greedy":
        pruning = greedy_prune(model, kept, held, context)
        return pruning, [1] * len(pruning.steps)
    pruning = Pruning(model, kept, held)
    if options.method == "hand":
        order, sizes = by_hand, [1] * len(by_hand)
    elif options.method == "from_layer":
        # The embedding first, then layer by layer; the last layer stays.
        order = list(range(model.config.num_paths - 2))
        sizes = [1, *[2] * (model.config.num_layers - 1)]
    else:
        ranked = rank_paths(model, kept, options.method, context)
        order = [one.number for one in ranked][:-1]
        sizes = [1] * len(order)
    for done, number in enumerate(order):
        context.progress(done, len(order), f"{done} paths pruned")
        pruning.remove(number)
    return pruning, sizes


def _steps(pruning: Pruning, sizes: list[int], names: tuple[str, ...]) -> tuple[PruneStep, ...]:
    assert pruning.start_held_out is not None
    found = [PruneStep((), pruning.start, pruning.start_held_out)]
    first = 0
    for size in sizes:
        group = pruning.steps[first : first + size]
        last = group[-1]
        assert last.held_out is not None
        paths = tuple(names[step.number] for step in group)
        found.append(PruneStep(paths, last.selection, last.held_out))
        first += size
    return tuple(found)


def _chosen(steps: tuple[PruneStep, ...], options: PruneOptions) -> int:
    """Return how many steps are kept; those named by hand all are."""
    if options.steps >= 0:
        return min(options.steps, len(steps) - 1)
    if options.method == "hand":
        return len(steps) - 1
    return int(np.argmin([step.selection.loss for step in steps]))


def _written(
    subject: Subject,
    model: VisionTransformer,
    found: Pruned,
    alpha: torch.Tensor,
    out: Path,
) -> Pruned:
    best = found.steps[found.kept]
    words = ", ".join(found.removed) or "none"
    recipe = {
        "kind": "pruned",
        "method": found.method,
        "removed": found.removed,
        "selection": asdict(best.selection),
        "held_out": asdict(best.held_out),
        "whole": asdict(found.steps[0]),
        **found.provenance,
    }
    path = write_variant(
        subject,
        weighed(model, alpha),
        out,
        f"Without these paths in the final sum: {words}.",
        recipe,
        {"held_out_accuracy": best.held_out.accuracy, "held_out_loss": best.held_out.loss},
    )
    return replace(found, model=path)
