"""Measure quality models on good images that are spoilt in known ways, beside plain measures."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from napari_cvsuite.images import find_images, replacing
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models.planes import Pixels
from napari_cvsuite.quality.distortions import DISTORTIONS, LEVELS, distort, grained
from napari_cvsuite.quality.measures import measure
from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.quality.scorer import Scorer
from napari_cvsuite.quality.target import LEAST_SIDE, likeness
from napari_cvsuite.quality.train import read_good

__all__ = [
    "EvaluateInputs",
    "Evaluation",
    "Score",
    "as_json_text",
    "as_text",
    "calibration_error",
    "evaluate",
]

AIMED = ("blur", "noise", "compression")
"""Families in which each image and distortion should be ranked almost without a mistake."""
BROAD = (*AIMED, "resolution")
"""Families that, with banding and stripes, have one worse direction beyond doubt."""
SEED = 20
"""Of the distortions; other than those of training."""
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class EvaluateInputs:
    """What to measure on.

    Parameters
    ----------
    images : Path
        Folder of good images.
    names : tuple of str
        Stems to use; empty takes all.
    groups : Path, optional
        CSV file with a column ``name`` and the kind of each image.
    group_column : str
        Its column.
    side : int
        The middle of every image is used, so many pixels wide and high at most.
    rows : Path, optional
        CSV file to write with every score.
    grain : float
        Standard deviation, in steps of 8 bits, of the noise of a sensor that lies over what
        spoils the light, and there over the image itself, too; the label knows nothing of it.
    """

    images: Path
    names: tuple[str, ...] = ()
    groups: Path | None = None
    group_column: str = "domain"
    side: int = 384
    rows: Path | None = None
    grain: float = 0.0


@dataclass(frozen=True)
class Score:
    """What one model, or one plain measure, reached.

    Parameters
    ----------
    by_distortion, by_group : dict of str to float
        Mean over images of Spearman's correlation with the level, 0 to 5, with the sign that
        makes 1 perfect; of groups over all distortions that have a worse direction.
    aimed : dict of str to float
        The same mean for families, and for ``broad``: blur, noise, compression, down-sampling,
        banding and stripes together.
    label : float
        Spearman's correlation with the label over all images, distortions and levels.
    pristine_first : float
        Share of series (of distortions with a worse direction) in which no level beats the image
        itself.
    kind_accuracy, calibration_error : float or None
        Of the likeliest distortion, over levels 0 to 5, and the expected calibration error of its
        confidence (10 bins); None where it names none.
    kind_accuracy_strong : float or None
        From level 3 on.
    """

    by_distortion: dict[str, float]
    by_group: dict[str, float]
    aimed: dict[str, float]
    label: float
    pristine_first: float
    kind_accuracy: float | None = None
    kind_accuracy_strong: float | None = None
    calibration_error: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores by the names of models and measures, and the number of images."""

    scores: dict[str, Score]
    n: int


def evaluate(
    inputs: EvaluateInputs, models: Sequence[str], context: Context, baselines: bool = True
) -> Evaluation:
    """Spoil every image in every way at every level, and look how the scores follow.

    Parameters
    ----------
    inputs : EvaluateInputs
    models : sequence of str
        Of the catalogue.
    context : Context
    baselines : bool
        Whether to measure the variance of the Laplacian, SSIM, MS-SSIM, the peak signal-to-noise
        ratio, and PIQE if the package pypiqe is installed, too.

    Raises
    ------
    ValueError, ImageError
        There are no images, or one cannot be used.
    UnknownModelError, CardError, WeightsError
    """
    paths = [p for p in find_images(inputs.images) if not inputs.names or p.stem in inputs.names]
    lacking = set(inputs.names) - {path.stem for path in paths}
    if lacking:
        raise ValueError(f"{inputs.images} has no image {sorted(lacking)[0]!r}; correct the names")
    groups = _groups(inputs)
    # Reports of single scores would hide those of images.
    quiet = Context(context.device, token=context.token)
    judges = {name: _judge(name, quiet) for name in models}
    rows: list[dict[str, Any]] = []
    for done, path in enumerate(paths):
        context.progress(done, len(paths), f"spoiling and scoring {path.name}")
        image = _middle(read_good(path, LEAST_SIDE), inputs.side)
        # Most series begin with the image itself, which is judged once.
        itself = _score_all(image, image, image, judges, baselines)
        for name, distortion in DISTORTIONS.items():
            grain = inputs.grain if distortion.optical else 0.0
            for level in range(LEVELS + 1):
                context.check()
                row = {"image": path.stem, "distortion": name, "level": level}
                row["group"] = groups.get(path.stem, "all")
                if level or grain:
                    spoilt = distort(image, name, level, SEED)
                    # Other noise at each level, of the same kind.
                    rng = np.random.default_rng((SEED, level))
                    seen = grained(spoilt[None], grain, rng)[0] if grain else spoilt
                    rows.append(row | _score_all(image, spoilt, seen, judges, baselines))
                else:
                    rows.append(row | itself)
    if inputs.rows is not None:
        _write(inputs.rows, rows)
    judged = [key for key in rows[0] if key.startswith("score ")]
    return Evaluation({key[6:]: _summary(rows, key) for key in judged}, len(paths))


Judge = Callable[[Pixels, Pixels], dict[str, Any]]


def _judge(name: str, context: Context) -> Judge:
    """Return a function (image, reference) -> score and the kind it names."""
    scorer = Scorer(ScoreOptions(model=name), context, True)

    def judge(pixels: Pixels, reference: Pixels) -> dict[str, Any]:
        opinion = scorer.score(pixels, reference if scorer.compares else None)
        kind, confidence, _ = opinion.likely
        return {f"score {name}": opinion.score, f"kind {name}": kind, f"sure {name}": confidence}

    return judge


def _score_all(
    image: UInt8, spoilt: UInt8, seen: UInt8, judges: dict[str, Judge], baselines: bool
) -> dict[str, Any]:
    """Label what is spoilt, and judge what is seen of it."""
    reference, pixels = (x.astype(np.float32) / np.float32(255) for x in (image, seen))
    measured = _likeness(spoilt, image)
    found: dict[str, Any] = {"label": float(np.mean(measured))}
    for judge in judges.values():
        found |= judge(pixels, reference)
    if baselines:
        found |= _baselines(pixels, reference, seen)
        found["score MS-SSIM"] = (measured if seen is spoilt else _likeness(seen, image))[0]
    return found


def _likeness(one: UInt8, other: UInt8) -> list[float]:
    if np.array_equal(one, other):
        return [1.0, 1.0, 1.0]
    tensors = (
        torch.from_numpy(x.transpose(2, 0, 1).astype(np.float32))[None] / 255 for x in (one, other)
    )
    measured: list[float] = likeness(*tensors)[0].tolist()
    return measured


def _baselines(pixels: Pixels, reference: Pixels, spoilt: UInt8) -> dict[str, float]:
    from skimage.metrics import structural_similarity

    error = float(np.square(pixels - reference).mean())
    found = {
        "score variance of Laplacian": measure(pixels).sharpness,
        "score SSIM": float(
            structural_similarity(reference, pixels, channel_axis=2, data_range=1.0)
        ),
        "score PSNR": -10 * float(np.log10(max(error, 1e-12))),
    }
    if importlib.util.find_spec("pypiqe") is not None:
        from pypiqe import piqe

        # It rises with what spoils the image.
        found["score PIQE"] = -float(piqe(spoilt)[0])
    return found


def _middle(image: UInt8, side: int) -> UInt8:
    starts = [max(0, (extent - side) // 2) for extent in image.shape[:2]]
    return image[starts[0] : starts[0] + side, starts[1] : starts[1] + side]


def _groups(inputs: EvaluateInputs) -> dict[str, str]:
    if inputs.groups is None:
        return {}
    try:
        with inputs.groups.open(newline="", encoding="utf-8") as handle:
            return {row["name"]: row[inputs.group_column] for row in csv.DictReader(handle)}
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{inputs.groups} must be a CSV file with columns name and {inputs.group_column} "
            f"({error})"
        ) from error


def _series(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["image"], row["distortion"]].append(row)
    # A gray image cannot lose colour.
    return {key: one for key, one in found.items() if one[-1]["label"] < 1.0}


def _summary(rows: list[dict[str, Any]], key: str) -> Score:
    within: dict[tuple[str, str], float] = {}
    first: list[float] = []
    groups: dict[str, list[float]] = defaultdict(list)
    series = _series(rows)
    for (image, name), one in series.items():
        scores = np.array([row[key] for row in one])
        levels = np.array([row["level"] for row in one])
        value = -float(spearmanr(scores, levels).statistic) if np.ptp(scores) else 0.0
        within[image, name] = value
        if DISTORTIONS[name].direction:
            groups[one[0]["group"]].append(value)
            first.append(float(scores[0] >= scores.max()))

    def mean(wanted: Callable[[str], bool]) -> float:
        chosen = [value for (_, name), value in within.items() if wanted(name)]
        return float(np.mean(chosen)) if chosen else float("nan")

    aimed = {family: mean(lambda n, f=family: DISTORTIONS[n].family == f) for family in AIMED}  # type: ignore[misc]
    counted = [row for one in series.values() for row in one]
    return Score(
        by_distortion={name: mean(lambda n, k=name: n == k) for name in DISTORTIONS},  # type: ignore[misc]
        by_group={group: float(np.mean(values)) for group, values in sorted(groups.items())},
        aimed=aimed | {"broad": mean(_is_broad)},
        label=float(spearmanr([r[key] for r in counted], [r["label"] for r in counted]).statistic),
        pristine_first=float(np.mean(first)),
        **_naming(counted, key[6:]),
    )


def _is_broad(name: str) -> bool:
    return DISTORTIONS[name].family in BROAD or name in ("banding", "stripes")


def _naming(rows: list[dict[str, Any]], name: str) -> dict[str, float | None]:
    kinds = [row.get(f"kind {name}", "") for row in rows]
    if not any(kinds):
        return {}
    true = ["none" if row["level"] == 0 else row["distortion"] for row in rows]
    right = np.array([kind == truth for kind, truth in zip(kinds, true, strict=True)])
    sure = np.array([row[f"sure {name}"] for row in rows])
    strong = np.array([row["level"] >= 3 for row in rows])
    return {
        "kind_accuracy": float(right.mean()),
        "kind_accuracy_strong": float(right[strong].mean()),
        "calibration_error": calibration_error(sure, right),
    }


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (which == b).mean() * abs(confidence[which == b].mean() - right[which == b].mean())
        for b in range(bins)
        if (which == b).any()
    ]
    return float(np.sum(gaps))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def as_text(found: Evaluation) -> str:
    """Return a table for people: one row a measure, one column a score."""
    names = list(found.scores)
    lines = [["", *names]]
    first = found.scores[names[0]]
    for part in ("aimed", "by_distortion", "by_group"):
        for key in getattr(first, part):
            values = [f"{getattr(found.scores[name], part)[key]:.3f}" for name in names]
            lines.append([key, *values])
    for part in (
        "label",
        "pristine_first",
        "kind_accuracy",
        "kind_accuracy_strong",
        "calibration_error",
    ):
        cells = [getattr(found.scores[name], part) for name in names]
        lines.append([part.replace("_", " "), *("" if c is None else f"{c:.3f}" for c in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_json_text(found: Evaluation) -> str:
    """Return all figures as JSON; what is not known is null."""
    return json.dumps(plain(found), allow_nan=False)
