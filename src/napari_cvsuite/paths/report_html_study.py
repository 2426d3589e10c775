"""The studies of deep transformers in the page of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from napari_cvsuite.paths.report_figures import study_figure
from napari_cvsuite.paths.report_parts import Studies, StudyPart
from napari_cvsuite.paths.study_result import Seeds
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.reports.markup import figure, note, table, text

__all__ = ["in_points", "studies_section"]


def studies_section(part: Studies) -> Iterator[str]:
    """Yield the section of a page that shows studies of deep transformers."""
    for one in part.parts:
        yield from _study(one)
    yield note(
        "Nothing that was chosen or fitted has seen the test images. Short paths: mean accuracy "
        "of the classifier on the sums up to a third of the layers to all but one. Gains are "
        "against plain networks of the largest depth with the same seed. Pruning and fitted "
        "weights are chosen on the images that training held out. Growth: mean length of the "
        "patch tokens after the last layer over that before the first. Losses and pairs of the "
        "self-distillation, and the start of the weights at 1, are definitions of this project."
    )


def _study(part: StudyPart) -> Iterator[str]:
    study = part.study
    train, test = study.data["train"], study.data["test"]
    unfinished = "" if study.complete else " This study is not finished."
    held = study.runs[0].held_out
    yield f"<h3>{text(study.name)}</h3>"
    yield (
        f"<p>{text(len(study.data['classes']))} classes; {text(train['images'])} images, of which "
        f"each training holds out {text(held)}; {text(test['images'])} test images"
        f"{text(_copies(study.data))}. "
        f"Epochs: {text(study.options['epochs'])}.{unfinished} Made on {text(study.date)} with "
        f"napari-cvsuite {text(study.version)} by <code>{text(study.command)}</code></p>"
    )
    yield figure(
        study_figure(part),
        f"{study.name}: test accuracy, a point a seed; and of the classifier on sums up to each "
        "layer, means over seeds.",
    )
    header = (
        "network, layers",
        "seeds",
        "accuracy",
        "of each seed",
        "gain in points",
        "short paths",
        "gain in points",
        "growth",
    )
    rows = [
        (
            f"{row.variant}, {row.layers}",
            len(row.accuracy.seeds),
            row.accuracy.mean,
            ", ".join(f"{value:.4f}" for value in row.accuracy.values),
            _gain(row.accuracy_gain),
            row.short.mean,
            _gain(row.short_gain),
            row.growth.mean.value,
        )
        for row in part.rows
    ]
    yield table("Trained in several ways, test images", header, rows)
    changes = [
        (
            f"{row.variant}, {row.layers}",
            *(_gain(one) for one in (row.pruning, row.scale_scalar, row.scale_channel)),
        )
        for row in part.rows
    ]
    titles = ("network, layers", "pruned", "weights, one a path", "weights, one a path and channel")
    yield table("Changed after training: change of test accuracy in points", titles, changes)


def in_points(change: Interval) -> Interval:
    """Return a change of a share in points."""
    return Interval(100 * change.value, 100 * change.low, 100 * change.high)


def _copies(data: Mapping[str, Any]) -> str:
    count = data["test_images_among_training"]
    return f" ({count} of them also among the others)" if count else ""


def _gain(found: Seeds | None) -> object:
    return "" if found is None else in_points(found.mean)
