"""Fit the last layer of a model to somebody's own ratings, and say how well it will do.

The layer is linear, so the fit is a ridge regression with an exact answer: the new layer is the old
one, scaled to the ratings, and the smallest change that explains them. How strongly change is
penalised is chosen by cross-validation within the images that are not held out.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.weights import locate, read_state_dict
from napari_cvsuite.quality.options import LEAST_RATED as LEAST
from napari_cvsuite.quality.options import RatingsOptions
from napari_cvsuite.quality.score import References, sources
from napari_cvsuite.quality.scorer import Scorer
from napari_cvsuite.training.publish import write_derived

__all__ = [
    "FOLDS",
    "LEAST",
    "Fit",
    "RatingsError",
    "RatingsResult",
    "fit",
    "keep",
    "read_ratings",
    "run",
]

Array = NDArray[np.float64]
FOLDS = 5
PENALTIES = tuple(float(10.0**power) for power in range(-2, 5))


class RatingsError(ValueError):
    """Ratings that cannot be fitted; the message says why."""


@dataclass(frozen=True)
class Fit:
    """A linear layer, and what it promises.

    Parameters
    ----------
    weight : ndarray of float64, shape (D,)
    bias : float
        The layer gives ratings on the scale of the ratings.
    srcc_before : float
        Spearman's correlation of the scores of the model as it was with the ratings.
    srcc_held_out : float
        The same of the predictions for images that a fold was not fitted on.
    """

    weight: Array
    bias: float
    srcc_before: float
    srcc_held_out: float


@dataclass(frozen=True, eq=False)
class Rated:
    """One rated slice.

    Parameters
    ----------
    image : Image
        Slices of one stack share it, and with it their window of intensities.
    rating : float
        Higher is better, on any scale.
    plane : int
        Number of the slice, the last stack axis running fastest.
    reference : Image, optional
        For models that compare; shared, too.
    """

    image: Image
    rating: float
    plane: int = 0
    reference: Image | None = None


@dataclass(frozen=True)
class RatingsResult:
    """Outcome of a fit.

    Parameters
    ----------
    fit : Fit
    base, n : str, int
        Name of the model it began with, and number of rated images.
    better : bool
        Whether the held-out correlation is above that of the model as it was.
    kept : str
        Name of the new model; empty if it was not kept.
    """

    fit: Fit
    base: str
    n: int
    better: bool
    kept: str = ""


def fit(features: Array, ratings: Array, weight: Array, seed: int = 0) -> Fit:
    """Fit a linear layer to ratings.

    Parameters
    ----------
    features : ndarray of float64, shape (N, D)
        What the layer sees.
    ratings : ndarray of float64, shape (N,)
        Higher is better, on any scale.
    weight : ndarray of float64, shape (D,)
        Of the layer as it is.
    seed : int
        Of the parting into folds.

    Raises
    ------
    RatingsError
        There are fewer than 20 ratings, they are not finite, or all are equal.
    """
    if len(ratings) < LEAST:
        raise RatingsError(
            f"{len(ratings)} images are rated; rate {LEAST} or more, good and bad ones"
        )
    if not np.isfinite(ratings).all() or not np.isfinite(features).all():
        raise RatingsError("a rating is no finite number; correct it or leave the image out")
    if not np.ptp(ratings):
        raise RatingsError("all ratings are equal; rate good and bad images")
    before = features @ weight
    held_out = np.zeros(len(ratings))
    for chosen in _folds(len(ratings), seed):
        kept = ~chosen
        penalty = _best_penalty(features[kept], ratings[kept], weight, seed)
        held_out[chosen] = _predict(
            features[chosen], *_ridge(features[kept], ratings[kept], weight, penalty)
        )
    final = _ridge(features, ratings, weight, _best_penalty(features, ratings, weight, seed))
    return Fit(*final, _srcc(before, ratings), _srcc(held_out, ratings))


def _folds(count: int, seed: int) -> list[NDArray[np.bool_]]:
    part = np.random.default_rng(seed).permutation(count) % FOLDS
    return [part == fold for fold in range(FOLDS)]


def _best_penalty(features: Array, ratings: Array, weight: Array, seed: int) -> float:
    """Return the penalty with the least squared error in an inner cross-validation."""
    folds = _folds(len(ratings), seed + 1)

    def error(penalty: float) -> float:
        return sum(
            float(
                np.square(
                    _predict(features[out], *_ridge(features[~out], ratings[~out], weight, penalty))
                    - ratings[out]
                ).sum()
            )
            for out in folds
        )

    return min(PENALTIES, key=error)


def _ridge(features: Array, ratings: Array, weight: Array, penalty: float) -> tuple[Array, float]:
    """Return weight and bias; an endless penalty leaves the old weight, scaled to the ratings."""
    centre, middle = features.mean(axis=0), ratings.mean()
    x, y = features - centre, ratings - middle
    old = x @ weight
    # What the old layer explains, at the scale of the ratings; never turned round.
    scaled = weight * max(float(old @ y), 0.0) / max(float(old @ old), 1e-12)
    scale = max(float(np.square(x).mean()), 1e-12)
    gram = x.T @ x + penalty * scale * np.eye(x.shape[1])
    new: Array = scaled + np.linalg.solve(gram, x.T @ (y - x @ scaled))
    return new, float(middle - centre @ new)


def _predict(features: Array, weight: Array, bias: float) -> Array:
    predicted: Array = features @ weight + bias
    return predicted


def _srcc(one: Array, other: Array) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) else 0.0


def read_ratings(table: Path, column: str) -> tuple[list[Path], list[float], list[Path]]:
    """Read rated images from a CSV file with the columns ``path`` and `column`.

    A column ``reference``, where there is one, names what each is compared with. Rows without a
    rating are passed over; relative paths start at the folder of the table.

    Returns
    -------
    paths, ratings, references

    Raises
    ------
    RatingsError
        The file cannot be read, lacks a column, or holds what is no number.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            rows = [row for row in csv.DictReader(handle) if (row.get(column) or "").strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise RatingsError(f"{table} cannot be read ({error}); give a CSV file") from error
    if not rows or "path" not in rows[0]:
        raise RatingsError(f"{table} needs the columns path and {column}, with ratings in it")
    try:
        ratings = [float(row[column]) for row in rows]
    except ValueError as error:
        raise RatingsError(f"{table}: a {column} is no number ({error}); correct it") from error
    others = [table.parent / row["reference"] for row in rows if row.get("reference")]
    if others and len(others) != len(rows):
        raise RatingsError(f"{table}: some rows lack a reference; give one to each or to none")
    return [table.parent / row["path"] for row in rows], ratings, others


def run(rated: Sequence[Rated], options: RatingsOptions, context: Context) -> RatingsResult:
    """Fit a model to ratings of slices.

    Parameters
    ----------
    rated : sequence of Rated
        20 or more.
    options : RatingsOptions
        With a name, the model is kept if it is better than the one it began with.
    context : Context

    Raises
    ------
    RatingsError
        The ratings or the model cannot be used; the message says why.
    ImageError, UnknownModelError, CardError, WeightsError, Cancelled
    """
    if len(rated) < LEAST:
        raise RatingsError(f"{len(rated)} images are rated; rate {LEAST} or more")
    compared = all(one.reference is not None for one in rated)
    options = options.resolved(compared)
    scorer = Scorer(options, context, compared)
    card = scorer.card
    if int(card.options.get("num_class", 1)) != 1 or card.options.get("out_act"):
        raise RatingsError(
            f"{card.name} gives no plain score that could be fitted; choose another model"
        )
    features = _features(rated, scorer, options, context)
    state = read_state_dict(locate(card))
    weight = state[f"{_last_layer(state)}.weight"].double().numpy()[0]
    ratings = np.array([one.rating for one in rated], float)
    found = fit(features, ratings, weight, options.seed)
    result = RatingsResult(found, card.name, len(rated), found.srcc_held_out > found.srcc_before)
    if not options.name or not result.better:
        return result
    return replace(result, kept=keep(result, options.name))


def _features(
    rated: Sequence[Rated], scorer: Scorer, options: RatingsOptions, context: Context
) -> Array:
    """Return what the last layer sees of each slice, N x D."""
    opened: dict[tuple[int, int], tuple[Planes, References]] = {}
    found = []
    for number, one in enumerate(rated):
        context.progress(number, len(rated), f"looking at {one.image.name}")
        key = (id(one.image), id(one.reference))
        if key not in opened:
            other = one.reference if scorer.compares else None
            opened[key] = sources(one.image, other, options, context)
        planes, references = opened[key]
        pixels = planes.read(planes.indices()[one.plane])
        found.append(scorer.embedding(pixels, references.at(one.plane)))
    return np.array(found, float)


def keep(result: RatingsResult, name: str) -> str:
    """Write the fitted model into the user's folder; return its name.

    Raises
    ------
    WeightsError
        The name is taken, or the files cannot be written.
    """
    card = Catalogue().get(result.base)
    state = dict(read_state_dict(locate(card)))
    key = _last_layer(state)
    for part, value in (("weight", result.fit.weight[None]), ("bias", np.array([result.fit.bias]))):
        old = state[f"{key}.{part}"]
        state[f"{key}.{part}"] = old.new_tensor(value)
    changes = {
        "description": f"{card.name}, its last layer fitted to {result.n} own ratings.",
        "data": f"{card.data} Fitted to {result.n} ratings.",
        "metrics": {
            "srcc_before": result.fit.srcc_before,
            "srcc_held_out": result.fit.srcc_held_out,
        },
    }
    return write_derived(state, card, name, changes).name


def _last_layer(state: Any) -> str:
    numbers = [int(key.split(".")[1]) for key in state if key.startswith("score_linear.")]
    return f"score_linear.{max(numbers)}"
