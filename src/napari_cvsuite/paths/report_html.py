"""The report on the paths of a transformer as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_cvsuite.paths import report_figures as figures
from napari_cvsuite.paths.contributions import SENTENCE
from napari_cvsuite.paths.counting import Lengths
from napari_cvsuite.paths.figures import frequency_figure, lengths_figure, pruning_figure
from napari_cvsuite.paths.influence import Effect
from napari_cvsuite.paths.pruning import SENTENCE as PRUNING
from napari_cvsuite.paths.report import PathReport
from napari_cvsuite.paths.report_html_study import in_points, studies_section
from napari_cvsuite.paths.report_parts import (
    CheckPart,
    FrequencyPart,
    InfluencePart,
    PruningPart,
    ScalePart,
)
from napari_cvsuite.reports.claims import claims_table
from napari_cvsuite.reports.files import write_page
from napari_cvsuite.reports.markup import figure, note, page, table, text
from napari_cvsuite.reports.sections import Section, again, origin, sections

__all__ = ["html", "write_report"]

CAUTION = (
    "The rules are of this project. A difference that so many images or seeds cannot tell from "
    "chance counts as “does not hold”. The paper's networks, images and settings are others: these "
    "verdicts confirm or refute nothing beyond the networks that they are of."
)


def write_report(report: PathReport, folder: Path) -> list[Path]:
    """Write ``report.html`` and ``report.json`` into a folder; return them.

    Raises
    ------
    ImageError
        A file cannot be written.
    """
    return write_page(folder, html(report), report)


def html(report: PathReport) -> str:
    """Return the report as HTML, its figures within it."""
    parts: tuple[Section, ...] = (
        ("Do the sums add up?", report.check, _check),
        ("Influence of each path", report.influence, _influence),
        ("Pruning", report.pruning, _pruning),
        ("EnsembleScale", report.scale, _scale),
        ("Frequencies", report.frequency, _frequency),
        ("Depth, EnsembleScale and distillation in training", report.studies, studies_section),
        ("Lengths of paths", report.lengths, _lengths),
    )
    title = f"Paths of {report.model.name}"
    body = [f"<h1>{text(title)}</h1>", *_head(report), *sections(parts)]
    return page(title, [*body, *claims_table(report.claims, CAUTION)])


def _head(report: PathReport) -> Iterator[str]:
    yield (
        "<p>A vision transformer as an ensemble of paths, after Chang et al. 2023, arXiv "
        "2308.06548. Do the paper&#x27;s claims hold? "
        '<a href="#claims">The verdicts</a> are at the end.</p>'
    )
    model = report.model
    yield table(
        "What the numbers are of",
        ("", ""),
        [
            ("model", model.name),
            ("network", model.network),
            ("SHA-256 of the weights", model.weights_sha256 or "unknown"),
            ("trained on", model.data),
            ("images", f"{report.folder}: {report.images} images"),
            *origin(report),
        ],
    )
    yield again(report)
    yield note(
        "Values in brackets are 95 % intervals: Wilson's for shares of images, by a paired "
        "bootstrap over images for their changes, Student's for means over seeds. Images that "
        "the network was trained on make it look better than it is: give others."
    )


def _check(part: CheckPart) -> Iterator[str]:
    rows = [
        ("all paths and the constant, and the " + part.unit, part.paths),
        ("heads and output bias, and the attention path", part.heads),
        ("source tokens and output bias, and the attention path", part.sources),
        ("run part by part, and the network itself", part.parts),
    ]
    shown = [(name, f"{value:.2e}") for name, value in rows]
    header = ("", "largest difference")
    yield table(f"Sums and what they should be, {part.images} images", header, shown)
    yield note("In float32, whose rounding is about 1e-7 of the largest number that is added.")


def _influence(part: InfluencePart) -> Iterator[str]:
    if part.zero.alone:
        caption = "How often the direct share of a path alone names the class, 95 % intervals."
        yield figure(figures.alone_figure(part), caption)
    for png in figures.effects_figures(part):
        yield figure(png, "Change of accuracy by interventions on each path, 95 % intervals.")
    kinds = (
        ("removed_final", "zero"),
        ("total_edge", "zero"),
        ("total_module", "zero"),
        ("total_module", "mean"),
    )
    columns = [part.effects(kind, how) for kind, how in kinds]
    alone = dict(zip(part.zero.names, part.zero.alone, strict=False))
    rows: list[Sequence[Any]] = [
        (name, alone.get(name, ""), *(_points(found.get(name)) for found in columns))
        for name in part.zero.names
    ]
    header = ("path", "share alone", *(f"{kind}, {how}" for kind, how in kinds))
    yield table(
        f"Accuracy of the share alone, and changes of accuracy in points, {part.zero.accuracy.n} "
        "images",
        header,
        rows,
    )
    layers = [part.effects("total_layer", how) for how in ("zero", "mean")]
    rows = [(name, *(_points(found[name]) for found in layers)) for name in layers[0]]
    yield table(
        "Both paths of a layer, changes of accuracy in points",
        ("layer", "total_layer, zero", "total_layer, mean"),
        rows,
    )
    yield note(
        "removed_final leaves a path out of the sum that the classifier reads. total_module and "
        "total_layer replace what is written for all later layers, too, by zero or by the mean "
        "over these images; total_edge hides what attention writes from all but the feed-forward "
        f"network of its layer. {SENTENCE}"
    )


def _points(effect: Effect | None) -> object:
    return "" if effect is None else in_points(effect.accuracy)


def _pruning(part: PruningPart) -> Iterator[str]:
    for name, found in (("greedy", part.greedy), ("from each layer on", part.from_layer)):
        caption = f"Pruning, {name}: loss and accuracy after each step."
        yield figure(pruning_figure(found), caption)
        rows = [
            (
                f"{number}. {'+'.join(step.paths) or 'whole sum'}",
                "yes" if number <= found.kept else "no",
                step.selection.loss,
                step.selection.accuracy,
                step.held_out.loss,
                step.held_out.accuracy,
            )
            for number, step in enumerate(found.steps)
        ]
        first = found.steps[0]
        yield table(
            f"{name}: chosen on {first.selection.images} images, checked on "
            f"{first.held_out.images} others",
            ("left out", "kept", "loss", "accuracy", "loss, held out", "accuracy, held out"),
            rows,
        )
    yield note(
        "Later layers still see what is left out. Greedy: again and again the path whose removal "
        f"lowers the loss most, until none does. {PRUNING} The definition is this project's."
    )


def _scale(part: ScalePart) -> Iterator[str]:
    yield figure(figures.scale_figure(part), "Fitted weights of the paths; 1 leaves a path as is.")
    rows = [
        (
            name,
            one.before.accuracy,
            one.after.accuracy,
            in_points(one.held_out_change),
            one.before.loss,
            one.after.loss,
            one.best_step,
        )
        for name, one in part.named
    ]
    header = ("weights", "accuracy", "fitted", "change in points", "loss", "fitted", "best step")
    known = part.scalar.provenance
    yield table(
        f"Held-out images, {part.scalar.before.images}; fitted on {known['fit_images']}, ended by "
        f"{known['stopping_images']} others",
        header,
        rows,
    )
    yield note(
        "The weights are of the final sum, start at 1, and are fitted while the network stays as "
        "it is (definition of this project). Images that the network was not trained on teach it "
        "something in any case, so that a gain need not come from the paths."
    )


def _frequency(part: FrequencyPart) -> Iterator[str]:
    caption = "Log amplitude of what each path writes to the patches, along the diagonal."
    yield figure(frequency_figure(part.curves), caption)
    if any(one.changed for one in part.filters):
        yield figure(figures.filters_figure(part), "The sum, and sums that are combined anew.")
    rows: list[Sequence[Any]] = [
        (one.name, one.kind, one.change, float(one.curve[-1])) for one in part.filters
    ]
    rows.append(("whole sum", "", "", float(part.curves.whole[-1])))
    header = ("combination", "works as", "upper half, change", "highest frequency")
    yield table(f"Log amplitudes against DC, {part.curves.images} images", header, rows)
    curves = [
        (name, *(float(value) for value in curve[1:]))
        for name, curve in zip(
            (*part.curves.names, "sum"), (*part.curves.curves, part.curves.whole), strict=True
        )
    ]
    titles = [f"{value:.3f}" for value in part.curves.frequencies[1:]]
    yield table("All curves, by cycles a patch", ("path", *titles), curves)
    yield note(
        "Protocol of Park and Kim 2022, without the Nyquist frequency; whether the paper measured "
        "this way is not known to us. Where the head reads the class token, the patches of the "
        "final sum are not read by it: the curves then say what the weights would do to them."
    )


def _lengths(part: Lengths) -> Iterator[str]:
    counts = part.counts
    yield (
        f"<p>The final sum has {text(counts.layer)} layer paths, {text(counts.module)} module "
        f"paths, or {text(counts.head)} paths with attention heads apart. Within them run "
        f"2<sup>{text(2 * part.layers)}</sup> routes, every module on or off.</p>"
    )
    yield figure(
        lengths_figure(part),
        "Routes by the number of modules that they go through (Veit et al. 2016).",
    )
    rows = [(str(row["modules"]), row["routes"], f"{row['share']:.3%}") for row in part.rows()]
    yield table("Routes by length", ("modules", "routes", "share"), rows)
    yield note(
        "Modules are not linear, so that routes are a way of counting; only the terms of the sum "
        "add up exactly."
    )
