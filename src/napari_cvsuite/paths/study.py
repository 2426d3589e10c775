"""Train small transformers of several depths in several ways, and measure them on other images.

The experiments of arXiv 2308.06548 at our scale: do deep transformers gain from weights of their
paths, from pruning, from self-distillation? Its settings are not public to us, and these networks
and images are others than the paper's.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.paths.options import PathOptions
from napari_cvsuite.paths.study_measure import measure
from napari_cvsuite.paths.study_options import VARIANTS, StudyOptions
from napari_cvsuite.paths.study_read import read_study
from napari_cvsuite.paths.study_result import Study, Trained, kind_rows
from napari_cvsuite.reports.commands import command_line
from napari_cvsuite.reports.files import write_facts
from napari_cvsuite.training.classifier import TrainInputs
from napari_cvsuite.training.classifier import run as train
from napari_cvsuite.training.classifier_options import ClassifierOptions
from napari_cvsuite.training.given import given_classifier
from napari_cvsuite.training.labelled import Labelled, find_labelled, hold_out, read_labelled
from napari_cvsuite.training.loop import RunFolderError
from napari_cvsuite.version import __version__

__all__ = ["FILE", "StudyInputs", "run", "training_options"]

FILE = "study.json"
"""Name of the file with all numbers, in the folder of the study."""
VALIDATIONS = 5
"""In a training; each draws a curve, which takes as long as some steps."""


@dataclass(frozen=True)
class StudyInputs:
    """Where the images of a study lie and where it is written.

    Parameters
    ----------
    images, test : Path
        Folders with a folder of images for each class; what is in the second is never trained on.
    out : Path
        Folder of the study; one that holds an unfinished one goes on.
    """

    images: Path
    test: Path
    out: Path


def run(inputs: StudyInputs, options: StudyOptions, context: Context) -> Study:
    """Train and measure all networks of the plan; :data:`FILE` is written after each.

    Raises
    ------
    ValueError, ImageError
        Images or classes cannot be used.
    RunFolderError
        The folder cannot be written, or holds another study or a damaged run.
    StudyFileError
        The file in the folder is damaged.
    DeviceError
        The device is not to be had.
    Cancelled
        Running again with the same folder goes on.
    """
    images, test, facts = _data(inputs, options, context)
    study = _begun(inputs, options, facts, choose_device(context.device))
    done = {(one.variant, one.layers, one.seed) for one in study.runs}
    plan = options.plan()
    for number, (variant, layers, seed) in enumerate(plan):
        if (variant, layers, seed) in done:
            continue
        name = f"{variant}-L{layers}-s{seed}"
        inner = context.part(number, len(plan), name)
        chosen = training_options(options, variant, layers, seed)
        made = _trained(inputs, name, chosen, variant, images, test, inner)
        runs = (*study.runs, made)
        study = _study(inputs, options, facts, runs, study.made_on["device"])
        write_facts(inputs.out / FILE, {**vars(study), "summary": kind_rows(study)})
    return study


def training_options(
    options: StudyOptions, variant: str, layers: int, seed: int
) -> ClassifierOptions:
    """Return how one network of a study is trained.

    Patches are projected, not made by convolutions, so that nothing but the transformer learns.
    """
    taken = ("size", "patch", "epochs", "batch", "lr", "weight_decay", "shift", "smoothing")
    values: dict[str, Any] = {name: getattr(options, name) for name in (*taken, "held_out")}
    return ClassifierOptions(
        arch="vit-deep",
        layers=layers,
        stem=False,
        turn="none",
        seed=seed,
        validate_every=max(1, options.epochs // VALIDATIONS),
        **{**values, **VARIANTS[variant]},
    )


def _data(
    inputs: StudyInputs, options: StudyOptions, context: Context
) -> tuple[Labelled, Labelled, dict[str, Any]]:
    """Read all images; return them with what is written of them."""
    found = [find_labelled(folder) for folder in (inputs.images, inputs.test)]
    images = read_labelled(found[0], options.size, context)
    test = read_labelled(found[1], options.size, context, images.classes)
    known = set(_digests(images))
    facts = {
        "train": _folder_facts(inputs.images, images),
        "test": _folder_facts(inputs.test, test),
        "classes": list(images.classes),
        # The same picture on both sides would be no test.
        "test_images_among_training": sum(one in known for one in _digests(test)),
    }
    return images, test, facts


def _folder_facts(folder: Path, data: Labelled) -> dict[str, Any]:
    whole = hashlib.sha256(data.images.tobytes() + data.labels.tobytes()).hexdigest()
    name = "/".join(folder.resolve().parts[-2:])
    return {"folder": name, "images": len(data), "sha256_of_pixels": whole}


def _digests(data: Labelled) -> Iterable[bytes]:
    return (hashlib.sha256(np.ascontiguousarray(one).tobytes()).digest() for one in data.images)


def _begun(inputs: StudyInputs, options: StudyOptions, facts: dict[str, Any], device: str) -> Study:
    """Return the study in the folder, or an empty one."""
    made = _study(inputs, options, facts, (), device)
    path = inputs.out / FILE
    if not path.exists():
        return made
    before = read_study(path)
    # More of the same kind can be added; all else must be as it was.
    free = {"depths", "variants", "seeds", "name"}
    same = [{k: v for k, v in one.options.items() if k not in free} for one in (before, made)]
    if same[0] != same[1] or before.data != made.data:
        raise RunFolderError(
            f"{inputs.out} holds a study of other images or with other options; choose another "
            "folder, or the options of that study"
        )
    return _study(inputs, options, facts, before.runs, device)


def _study(
    inputs: StudyInputs,
    options: StudyOptions,
    facts: dict[str, Any],
    runs: Sequence[Trained],
    device: str,
) -> Study:
    there = {(one.variant, one.layers, one.seed) for one in runs}
    return Study(
        name=options.name or facts["train"]["folder"],
        data=facts,
        options=asdict(options),
        complete=there >= set(options.plan()),
        runs=tuple(runs),
        command=command_line(
            ("napari-cvsuite", "paths", "study"),
            options,
            ("epochs",),
            images=inputs.images,
            test=inputs.test,
            out=inputs.out,
        ),
        date=datetime.now(UTC).date().isoformat(),
        version=__version__,
        made_on={
            "device": device,
            "precision": "float32",
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    )


def _trained(
    inputs: StudyInputs,
    name: str,
    chosen: ClassifierOptions,
    variant: str,
    images: Labelled,
    test: Labelled,
    context: Context,
) -> Trained:
    """Train one network, or end its training, and measure it."""
    started = time.monotonic()
    result = train(TrainInputs(inputs.images, inputs.out / name), chosen, context)
    network, card = given_classifier(str(result.model))
    device = choose_device(context.device)
    subject = Subject(network.requires_grad_(False).to(device), card, device, PathOptions())
    # As the training did with this seed.
    _, held = hold_out(images, chosen.held_out, chosen.seed)
    measured = measure(subject, held, test, chosen.seed, context)
    return Trained(
        variant=variant,
        layers=chosen.layers,
        seed=chosen.seed,
        parameters=sum(one.numel() for one in network.parameters()),
        trained_on=result.trained_on,
        held_out=result.validated_on,
        score=result.best_score,
        seconds=time.monotonic() - started,
        measured=measured,
    )
