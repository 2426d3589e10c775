"""Commands that look into a classifier through one image, or many without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cvsuite.cli.common import compute, likely_lines, with_options
from napari_cvsuite.cli.tasks import AsJson, Device, Input, Table
from napari_cvsuite.neurons.class_map_options import ClassMapOptions
from napari_cvsuite.neurons.copy_options import CopyOptions
from napari_cvsuite.neurons.options import (
    AblateOptions,
    ActivationOptions,
    AttackOptions,
    MaximiseOptions,
    NeuronOptions,
    PatchOptions,
    SaliencyOptions,
    SmoothnessOptions,
)

__all__ = ["neurons_app", "tell"]

neurons_app = typer.Typer(help="Look into a classifier: what it sees.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Mask = Annotated[
    Path | None, typer.Option(help="Label image of the size of the image, not 0 at the object.")
]


def _read(path: Path | None) -> Any:
    from napari_cvsuite.images import read

    return None if path is None else read(path)


def _folder(out: Path) -> Path:
    from napari_cvsuite.reports.files import made_folder

    return made_folder(out)


def tell(result: Any, as_json: bool, lines: list[str]) -> None:
    """Print a result, as JSON or in lines."""
    from napari_cvsuite.jobs.plain import plain

    typer.echo(json.dumps(plain(result)) if as_json else "\n".join(lines))


@neurons_app.command("predict")
@with_options(NeuronOptions)
def predict(
    image: Input, options: NeuronOptions, device: Device = "auto", as_json: AsJson = False
) -> None:
    """Classify an image: the likeliest classes."""
    from napari_cvsuite.images import read
    from napari_cvsuite.neurons.explain import predict

    found = compute(
        lambda context: predict(read(image), options, context), device, "interactive", "predict"
    )
    tell(found, as_json, likely_lines(found.likely))


@neurons_app.command("saliency")
@with_options(SaliencyOptions)
def saliency(
    image: Input,
    out: Out,
    options: SaliencyOptions,
    mask: Mask = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Map which pixels a class or a neuron depends on: STEM.saliency.tif, .png and .json."""
    from napari_cvsuite.neurons.explain import SENTENCE, run
    from napari_cvsuite.neurons.files import write_explained

    found = compute(
        lambda context: run(_read(image), options, context, _read(mask)),
        device,
        name="saliency",
        quiet=as_json,
    )
    paths = write_explained(found, _folder(out) / image.stem)
    gap = "" if found.gap is None else f", completeness gap {found.gap:.2%}"
    lines = [f"{options.method} of {found.target}{gap}", *([found.note] if found.note else [])]
    if found.check is not None:
        curves = found.check.curves
        lines += [
            f"insertion {curves.map.insertion_auc:.3f} (random {curves.random.insertion_auc:.3f}), "
            f"deletion {curves.map.deletion_auc:.3f} (random {curves.random.deletion_auc:.3f})",
            f"sensitivity {found.check.sensitivity:.3f}; correlation after randomising the last "
            f"layer {found.check.randomised.correlations[0]:.2f}",
        ]
    if found.inside is not None:
        lines.append(found.inside.in_words())
    tell(found, as_json, [*lines, SENTENCE, *map(str, paths)])


@neurons_app.command("classes")
@with_options(ClassMapOptions)
def classes(
    image: Input,
    out: Out,
    options: ClassMapOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Map which class leads at each place: STEM.classes.tif, counted from 1, and .json."""
    from napari_cvsuite.images import read
    from napari_cvsuite.neurons.class_map import run
    from napari_cvsuite.neurons.files import write_classes

    found = compute(
        lambda context: run(read(image), options, context), device, name="classes", quiet=as_json
    )
    paths = write_classes(found, _folder(out) / image.stem)
    lines = [f"{row['share']:7.2%}  {row['label']:>4} {row['class']}" for row in found.rows()]
    tell(found, as_json, [*lines, found.words, *map(str, paths)])


@neurons_app.command("channels")
@with_options(ActivationOptions)
def channels(
    image: Input,
    out: Out,
    options: ActivationOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write what the channels of a layer give: STEM.LAYER.tif and .json."""
    from napari_cvsuite.images import read
    from napari_cvsuite.neurons.browse import run
    from napari_cvsuite.neurons.files import write_activated

    found = compute(
        lambda context: run(read(image), options, context), device, name="channels", quiet=as_json
    )
    paths = write_activated(found, _folder(out) / image.stem)
    best = ", ".join(map(str, found.strongest()[:10]))
    tell(found, as_json, [f"{found.layer}: most active {best}", *map(str, paths)])


@neurons_app.command("patches")
@with_options(PatchOptions)
def patches(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    options: PatchOptions,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file to write: a row of patches for each channel.")
    ] = None,
    csv_file: Table = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find the parts of images that excite the channels of a layer most."""
    from napari_cvsuite.images import expand
    from napari_cvsuite.neurons.favourites import run
    from napari_cvsuite.neurons.files import patch_picture
    from napari_cvsuite.reports.files import write_picture, write_rows

    paths = expand(inputs)
    found = compute(
        lambda context: run(paths, options, context), device, name="patches", quiet=as_json
    )
    if csv_file is not None:
        write_rows(csv_file, found.table())
    if picture is not None:
        write_picture(picture, patch_picture(found.pictures))
    lines = [
        f"channel {row.channel}: {row.activation:.3g} in {row.image}, slice {row.slice}"
        for row in found.rows
        if row.rank == 1
    ]
    tell(found, as_json, [f"{found.layer}, {found.n} slices", *lines])


@neurons_app.command("attack")
@with_options(AttackOptions)
def attack(
    image: Input,
    out: Out,
    options: AttackOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Search a small change that misleads the classifier: does it break?"""
    from napari_cvsuite.images import read
    from napari_cvsuite.neurons.files import write_misled
    from napari_cvsuite.neurons.mislead import run

    found = compute(
        lambda context: run(read(image), options, context), device, name="attack", quiet=as_json
    )
    paths = write_misled(found, _folder(out) / image.stem)
    verdict = "The prediction changed." if found.broken else "The prediction did not change."
    lines = [
        f"{options.norm} {found.size:.3g} of at most {found.eps:.3g}",
        "before:",
        *likely_lines(found.likely_before),
        "after:",
        *likely_lines(found.likely_after),
        verdict,
    ]
    tell(found, as_json, [*lines, *map(str, paths)])


@neurons_app.command("ablate")
@with_options(AblateOptions)
def ablate(
    image: Input,
    options: AblateOptions,
    csv_file: Table = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Silence channels of a layer, some together or each in turn."""
    from napari_cvsuite.images import read
    from napari_cvsuite.neurons.silence import run
    from napari_cvsuite.reports.files import write_rows

    found = compute(
        lambda context: run(read(image), options, context), device, name="ablate", quiet=as_json
    )
    if csv_file is not None:
        write_rows(csv_file, found.rows())
    rows = sorted(found.rows(), key=lambda row: -row["drop"])[:10]
    lines = [
        f"{row['channels']:>8}: {found.target} {-row['drop']:+.2%}"
        f"{', prediction changed' if row['changed'] else ''}"
        for row in rows
    ]
    tell(found, as_json, [f"{found.layer}, {found.mode}", *lines, *likely_lines(found.after)])


@neurons_app.command("simplicity")
@with_options(SmoothnessOptions)
def simplicity(
    image: Input, options: SmoothnessOptions, device: Device = "auto", as_json: AsJson = False
) -> None:
    """Measure how smooth kernels, activations and saliency are, and what noise does."""
    from napari_cvsuite.images import read
    from napari_cvsuite.neurons.simplicity import run

    found = compute(
        lambda context: run(read(image), options, context), device, name="simplicity", quiet=as_json
    )
    lines = [
        f"first kernels: TV {found.kernel_tv:.3f}, TV/L1 {found.kernel_tv_over_l1:.3f}",
        f"saliency: TV {found.saliency_tv:.1f}; length of the gradient {found.gradient_length:.3g}",
        *(
            f"{row.layer}: TV noisy/clean {row.tv_ratio:.3f}, relative change {row.change:.3f}"
            for row in found.layers
        ),
    ]
    tell(found, as_json, lines)


@neurons_app.command("maximise")
@with_options(MaximiseOptions)
def maximise(
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    options: MaximiseOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Search the image that a channel likes most."""
    from napari_cvsuite.neurons.dream import run
    from napari_cvsuite.reports.files import write_picture

    found = compute(lambda context: run(options, context), device, name="maximise", quiet=as_json)
    write_picture(out, found.image)
    gained = f"{found.scores[0]:.3g} to {found.scores[-1]:.3g}"
    tell(found, as_json, [f"{found.layer} channel {found.channel}: {gained}", str(out)])


@neurons_app.command("copies")
@with_options(CopyOptions)
def copies(
    image: Input,
    out: Out,
    options: CopyOptions,
    mask: Mask = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Distort what the network sees: STEM.DISTORTION.png, and what it says of each copy."""
    from napari_cvsuite.neurons.copies import run
    from napari_cvsuite.neurons.files import write_copies

    found = compute(
        lambda context: run(_read(image), options, context, _read(mask)),
        device,
        name="copies",
        quiet=as_json,
    )
    paths = write_copies(found, _folder(out) / image.stem)
    named = [("as it is", found.likely), *((one.title, one.likely) for one in found.copies)]
    lines = [f"{title:16} {likely_lines(likely)[0]}" for title, likely in named]
    tell(found, as_json, [*lines, *map(str, paths)])
