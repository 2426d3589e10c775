"""EnsembleScale: weights of the paths fitted to labelled images, or folded into the layers.

The idea is that of arXiv 2308.06548; its detail is not public to us, so that start value, fit and
placements are this project's definitions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.export import write_variant
from napari_cvsuite.paths.labelled_options import FoldOptions, ScaleOptions
from napari_cvsuite.paths.pruning import change, rows_of_images, weighed
from napari_cvsuite.paths.rows import Score, score
from napari_cvsuite.paths.scale import Fitted, fit_scale, folded
from napari_cvsuite.paths.subject import (
    LabelledInputs,
    labelled_images,
    model_opened,
    names_of,
    normalised,
    provenance,
    transformer,
)
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.labelled import hold_out

__all__ = ["Folded", "Scaled", "fold", "run"]

STOPPING = 0.25
"""Share of the images of the choice that end the fit, and take no part in it."""


@dataclass(frozen=True)
class Scaled:
    """Outcome of a fit.

    Parameters
    ----------
    names : tuple of str
        Of the P paths.
    alpha : ndarray of float32, shape (P,) or (P, D)
        Weights of the paths in the final sum; 1 leaves a path as it is.
    fit_loss, stopping_loss : tuple of float
        Mean cross-entropy at each step, on the images of the fit and on those that end it.
    best_step : int
        The step whose weights are kept.
    before, after : Score
        On held-out images, which neither the fit nor its end has seen.
    held_out_change : Interval
        Change of accuracy on them, with its 95 % interval by a paired bootstrap.
    model : Path or None
        The weight file, if one was written.
    provenance : dict
    """

    names: tuple[str, ...]
    alpha: NDArray[np.float32]
    fit_loss: tuple[float, ...]
    stopping_loss: tuple[float, ...]
    best_step: int
    before: Score
    after: Score
    held_out_change: Interval
    model: Path | None
    provenance: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each path: its weight, or mean, least and largest of its weights."""
        alpha = self.alpha.reshape(len(self.names), -1)
        return [
            {
                "path": name,
                "mean": float(row.mean()),
                "least": float(row.min()),
                "largest": float(row.max()),
            }
            for name, row in zip(self.names, alpha, strict=True)
        ]


@dataclass(frozen=True)
class Folded:
    """A network whose layers hold the weights that its stream had.

    Parameters
    ----------
    difference : float
        Largest change of a logit, over random images: rounding.
    model : Path
        The weight file.
    provenance : dict
    """

    difference: float
    model: Path
    provenance: dict[str, Any]


def run(
    inputs: LabelledInputs, options: ScaleOptions, context: Context, out: Path | None = None
) -> Scaled:
    """Fit weights of the paths in the final sum to labelled images.

    A quarter of the images that are not held out ends the fit early, and takes no part in it.

    Parameters
    ----------
    inputs : LabelledInputs
    options : ScaleOptions
    context : Context
    out : Path, optional
        Folder for the weighed network: weights, card and recipe, ready to be imported.

    Raises
    ------
    ValueError, ImageError
        The images or labels cannot be used, or a class has too few of them.
    RowsMemoryError
        So many images take too much memory; the message says how many do not.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with model_opened(options, context) as subject:
        model = transformer(subject)
        data = labelled_images(inputs, options, subject, context.part(0, 3, "reading"))
        rest, held = hold_out(data, options.held_out, options.seed)
        parts = (*hold_out(rest, STOPPING, options.seed + 1), held)
        fit, stopping, held_rows = (
            rows_of_images(part, options.batch, subject, context.part(1, 3, "running"))
            for part in parts
        )
        fitted = fit_scale(
            model,
            fit,
            stopping,
            options.per == "channel",
            options.steps,
            options.learning_rate,
            context=context.part(2, 3, "fit"),
        )
        found = Scaled(
            names_of(model),
            fitted.alpha.float().cpu().numpy(),
            tuple(one.selection.loss for one in fitted.history),
            tuple(one.judged for one in fitted.history),
            fitted.best_step,
            score(model, held_rows),
            score(model, held_rows, fitted.alpha),
            change(model, held_rows, fitted.alpha, options.seed),
            None,
            provenance(
                subject,
                options,
                placement="final",
                fit_images=len(fit),
                stopping_images=len(stopping),
                held_out_images=len(held),
            ),
        )
        return found if out is None else _written(subject, model, found, fitted, out)


def fold(out: Path, options: FoldOptions, context: Context) -> Folded:
    """Write a network whose layers hold the weights that its stream had.

    Parameters
    ----------
    out : Path
        Folder for weights, card and recipe.
    options : FoldOptions
    context : Context

    Raises
    ------
    ValueError
        The network has no such weights, or weights in its final sum, which no layer can hold.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with model_opened(options, context) as subject:
        model = transformer(subject)
        if model.ensemble_scale is None:
            raise ValueError(
                f"{options.model} has no weights of its paths to fold; train one with "
                "--ensemble-scale"
            )
        made = folded(model)
        facts = provenance(subject, options, placement="stream")
        difference = _difference(subject, model, made)
        path = write_variant(
            subject,
            made,
            out,
            "Weights of the paths folded into the layers.",
            {"kind": "folded", "difference": difference, **facts},
            subject.card.metrics,
        )
        return Folded(difference, path, facts)


@exact()
def _difference(subject: Subject, one: VisionTransformer, other: VisionTransformer) -> float:
    side = one.config.image_size
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    x = normalised(subject, images)
    return float((one(x) - other(x)).abs().max())


def _written(
    subject: Subject, model: VisionTransformer, found: Scaled, fitted: Fitted, out: Path
) -> Scaled:
    recipe = {
        "kind": "scaled",
        "alpha": dict(zip(found.names, fitted.alpha.tolist(), strict=True)),
        "best_step": found.best_step,
        "before": asdict(found.before),
        "after": asdict(found.after),
        **found.provenance,
    }
    path = write_variant(
        subject,
        weighed(model, fitted.alpha),
        out,
        "Paths weighed in the final sum.",
        recipe,
        {"held_out_accuracy": found.after.accuracy, "held_out_loss": found.after.loss},
    )
    return replace(found, model=path)
