"""The report on a pair of classifiers as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_cvsuite.neurons import report_figures as figures
from napari_cvsuite.neurons.report import PairReport
from napari_cvsuite.neurons.report_parts import (
    AblationPart,
    AccuracyPart,
    BiasPart,
    DissectionPart,
    DiversityPart,
    NoisePart,
    SmoothnessPart,
)
from napari_cvsuite.reports.claims import claims_table
from napari_cvsuite.reports.files import write_page
from napari_cvsuite.reports.markup import figure, note, page, table, text
from napari_cvsuite.reports.sections import Section, again, origin, sections

__all__ = ["html", "write_report"]

OURS = "Definition of this project."
CAUTION = (
    "The rules are of this project. A difference that so many images cannot tell from chance "
    "counts as “does not hold”. One pair does not confirm or refute a claim on others."
)


def write_report(report: PairReport, folder: Path) -> list[Path]:
    """Write ``report.html`` and ``report.json`` into a folder; return them.

    Raises
    ------
    ImageError
        A file cannot be written.
    """
    return write_page(folder, html(report), report)


def html(report: PairReport) -> str:
    """Return the report as HTML, its figures within it."""
    S, R = report.models
    parts: tuple[Section, ...] = (
        ("Accuracy", report.accuracy, _accuracy),
        ("Shape or texture", report.bias, _bias),
        ("Smoothness", report.smoothness, _smoothness),
        ("Noise blocking", report.noise, _noise),
        ("Dissection", report.dissection, _dissection),
        ("Types of inputs", report.diversity, _diversity),
        ("Ablation", report.ablation, _ablation),
    )
    title = f"{S.name} and {R.name}"
    body = [f"<h1>{text(title)}</h1>", *_head(report), *sections(parts)]
    return page(title, [*body, *claims_table(report.claims, CAUTION)])


def _head(report: PairReport) -> Iterator[str]:
    yield (
        "<p>What the robust network R does unlike the standard network S of the same "
        "architecture; after Chen, Agarwal and Nguyen 2020, "
        "arXiv 2006.09373. Do the paper&#x27;s claims hold? "
        '<a href="#claims">The verdicts</a> are at the end.</p>'
    )
    rows = [
        (which, one.name, one.network, one.training, one.weights_sha256 or "unknown")
        for which, one in zip("SR", report.models, strict=True)
    ]
    yield table("The models", ("", "name", "network", "training", "SHA-256 of the weights"), rows)
    data = dict(report.folders)
    if "images" in data:
        data["images"] += f": {report.n} images, {report.both} named rightly by both"
    yield table("What the numbers are of", ("", ""), [*data.items(), *origin(report)])
    yield again(report)
    yield (
        '<p class="note">Values in brackets are 95 % intervals: Wilson&#x27;s for shares, else by '
        "the bootstrap over images or channels. Sections 3, 4, 6 and 7, and the distortions in "
        "section 1, are of the images that both models name rightly.</p>"
    )


def _accuracy(part: AccuracyPart) -> Iterator[str]:
    yield figure(
        figures.accuracy_figure(part), "Accuracy; below the line on images that both name rightly."
    )
    rows: list[Sequence[Any]] = [
        ("as they are", *part.clean, part.clean[0].n, ""),
        (f"attacked, L2 {part.eps:.3g}", *part.attacked, part.clean[0].n, "secondary"),
    ]
    rows += [
        (figures.control_name(row.control, row.level), *row.rates, row.rates[0].n, row.tag)
        for row in part.controls
    ]
    yield table("Share named rightly", ("images", "S", "R", "n", "definition"), rows)
    yield note(
        f"The attack is projected gradient descent in ten steps; its radius: {part.eps_source}. "
        "Below the second row: images that both name rightly. Definition: secondary, the paper's "
        "released code; ours, this project."
    )
    if part.corruption is not None:
        each = part.corruption.each
        rows = [*each.items(), ("mean corruption error", part.corruption.mean)]
        yield table("Errors of R as multiples of those of S", ("distortion", "R / S"), rows)
        yield note("Below 1, R errs less. Distortions under which S makes no error are left out.")


def _bias(part: BiasPart) -> Iterator[str]:
    yield figure(
        figures.bias_figure(part),
        "Shape bias, in all and by the shape; the band is the range of ten people.",
    )
    S, R = part.standard.bias, part.robust.bias
    named = [("all", S.total, R.total)]
    named += [(name, S.by_shape[name], R.by_shape[name]) for name in S.by_shape]
    rows = [
        (
            name,
            one.n,
            *(cell for two in (one, other) for cell in (two.bias, two.n_shape, two.n_texture)),
        )
        for name, one, other in named
    ]
    header = ("shape", "n", "S", "as shape", "as texture", "R", "as shape", "as texture")
    yield table("Shape bias, Ns / (Ns + Nt), and decisions", header, rows)
    yield note("Other decisions count for neither: few decisions in all mean poor recognition.")


def _smoothness(part: SmoothnessPart) -> Iterator[str]:
    yield figure(
        figures.smoothness_figure(part), "Total variation over the sum of magnitudes, by layer."
    )
    rows = [
        (
            row.layer,
            row.standard.tv,
            row.robust.tv,
            row.standard.tv_over_l1,
            row.robust.tv_over_l1,
        )
        for row in (*part.kernels, part.mean)
    ]
    yield table("Kernels", ("layer", "TV, S", "TV, R", "TV/L1, S", "TV/L1, R"), rows)
    yield note(
        "TV, total variation, grows with the weights; TV over the sum of magnitudes (L1) does not, "
        "and is a definition of this project. The mean counts each layer with its channels."
    )
    if not part.activations or part.examples is None:
        yield '<p class="skipped">Activations and saliency take labelled images (--images).</p>'
        return
    header = ("layer", "TV, S", "TV, R", "TV/L1, S", "TV/L1, R", "channels", "outliers, S", "R")
    cells = [
        (row.layer, *row.tv, *row.tv_over_l1, row.channels, *row.outliers)
        for row in part.activations
    ]
    yield table("Activations", header, cells)
    yield note(
        "Outliers: channels whose TV noise changes by 0.2 or more of the mean TV of S on clean "
        "images."
    )
    yield figure(
        figures.examples_figure(part.examples),
        "Images with the signed gradient of the predicted class, in S and in R. Red raises the "
        "class, blue lowers it, white does neither; each map on its own scale. A "
        "saliency map shows what the score is sensitive to, not a diagnosis.",
    )
    maps = [(row.measure, row.standard, row.robust) for row in part.saliency]
    yield table("Gradient of the predicted class, mean over images", ("", "S", "R"), maps)


def _noise(part: NoisePart) -> Iterator[str]:
    yield figure(figures.noise_figure(part), "How much of the noise comes through each layer.")
    header = ("layer", "change, S", "change, R", "R / S", "TV noisy/clean, S", "R")
    rows = [(row.layer, *row.change, row.ratio, *row.tv_ratio) for row in part.layers]
    yield table(f"Noise of deviation {part.sigma:g}, {part.n} images", header, rows)
    yield note("Change: mean absolute change over mean activation.")


def _dissection(part: DissectionPart) -> Iterator[str]:
    yield figure(figures.dissection_figure(part), "Channels that detect each concept.")
    header = (
        "concept",
        "group",
        "area",
        "IoU, S",
        "chance",
        "IoU, R",
        "chance",
        "detectors, S",
        "R",
        "reliable, S",
        "R",
        "change",
    )
    change = {row["concept"]: row["change"] for row in part.change.rows()}
    rows = [
        (
            row.concept,
            row.group,
            row.area,
            *(cell for two in zip(row.iou, row.chance, strict=True) for cell in two),
            *row.detectors,
            *row.reliable,
            change.get(row.concept, "no detector"),
        )
        for row in part.concepts
    ]
    yield table(f"Layer {part.standard.layer}, {part.standard.n} images", header, rows)
    yield note(
        f"A detector has an IoU of {part.standard.units.cut:g} or more with its best concept; it "
        "is reliable where shifted masks reach that in 5 % of the cases or fewer, over all "
        "channels. Thresholds are chosen on half of the images, IoU is of the others. " + OURS
    )


def _diversity(part: DiversityPart) -> Iterator[str]:
    yield figure(
        figures.diversity_figure(part), "Classes among the top images of channels, by layer."
    )
    rows = [(row.layer, *row.channels, *row.classes) for row in (*part.layers, part.total)]
    yield table(
        f"Classes among the top {part.top} of {part.n} images, mean over channels",
        ("layer", "channels, S", "R", "classes, S", "classes, R"),
        rows,
    )
    yield note(
        f"{OURS} The paper's own measure is not public. Channels that never respond are left out, "
        "and images to which a channel does not respond are not counted."
    )


def _ablation(part: AblationPart) -> Iterator[str]:
    yield figure(figures.ablation_figure(part), "Error without each channel, in the order of R.")
    rows = [
        (name, len(one.errors), one.mean, one.largest, one.channel, int((one.errors > 0).sum()))
        for name, one in (("S", part.standard), ("R", part.robust))
    ]
    header = ("", "channels", "mean error", "largest", "of channel", "channels with any error")
    yield table(f"One channel of {part.layer} set to zero, {part.n} images", header, rows)
    yield note("With all channels the error is 0: these are images that both name rightly.")
