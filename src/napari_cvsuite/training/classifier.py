"""Train a classifier, on images as they are or on images changed to mislead it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.request import InputReference, RequestError
from napari_cvsuite.models.attack import pgd, pgd_step
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.models.weights import read_state_dict
from napari_cvsuite.training.augment import augment
from napari_cvsuite.training.classifier_options import ClassifierOptions
from napari_cvsuite.training.distil import Learner
from napari_cvsuite.training.labelled import (
    Labelled,
    find_labelled,
    hold_out,
    read_labelled,
    tensors,
)
from napari_cvsuite.training.loop import LoopOptions, TrainingTask, fit
from napari_cvsuite.training.network import make_loss, make_network, undecayed
from napari_cvsuite.training.publish import MODEL, write_of_run
from napari_cvsuite.training.result import TrainResult

__all__ = ["TrainInputs", "mislead", "run"]

ATTACK_STEPS = 10
"""Of the attack in validation; each of a quarter of the radius."""
MOST_ATTACKED = 512
"""Images attacked in a validation."""


@dataclass(frozen=True)
class TrainInputs:
    """Where the data lies and where the run is written.

    Parameters
    ----------
    images : Path
        Folder with a folder a class; or, with a table, of images.
    out : Path
        Folder of the run; one that holds an unfinished run is resumed.
    table : Path, optional
        CSV file with the column ``file``.
    column : str
        Column of the labels in it.
    """

    images: Path
    out: Path
    table: Path | None = None
    column: str = "label"

    def references(self) -> tuple[InputReference, ...]:
        """Return the inputs of a request that asks for this training."""
        table = () if self.table is None else (InputReference("file", str(self.table), "table"),)
        return (
            InputReference("file", str(self.images), "images"),
            InputReference("file", str(self.out), "out"),
            *table,
            InputReference("text", self.column, "column"),
        )

    @classmethod
    def from_references(cls, references: Sequence[InputReference]) -> TrainInputs:
        """Rebuild from :meth:`references`; raises :class:`RequestError`."""
        found = {one.role: one.value for one in references}
        known = {"images", "out", "table", "column"}
        if not {"images", "out"} <= set(found) <= known or len(found) != len(references):
            raise RequestError(
                "a training needs one input of each role images and out, and may have table and "
                f"column; got {', '.join(sorted(one.role for one in references))}"
            )
        table = Path(found["table"]) if "table" in found else None
        column = found.get("column", "label")
        return cls(Path(found["images"]), Path(found["out"]), table, column)


def mislead(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    options: ClassifierOptions,
    seed: int,
) -> Tensor:
    """Return images within the radius that raise the cross-entropy, from a random place in it.

    One step is the recipe of Wong et al. (arXiv 2001.03994), with 1.25 radii; several are those of
    Madry et al. (arXiv 1706.06083), with 2.5 radii in all.

    Parameters
    ----------
    network : callable
        Maps images to logits; in the mode that it is trained in.
    x : Tensor, shape (B, 3, H, W)
        In [0, 1].
    labels : Tensor of int64, shape (B,)
    options : ClassifierOptions
        Its norm, radius and number of steps.
    seed : int
    """
    generator = torch.Generator().manual_seed(seed)
    if options.adversarial == "linf":
        away = (2 * torch.rand(x.shape, generator=generator) - 1) * options.eps
    else:
        away = torch.randn(x.shape, generator=generator)
        # Uniform in the ball: the length is that of a point in so many dimensions.
        length = torch.rand(len(x), generator=generator) ** (1 / x[0].numel())
        away *= options.eps * (length / away.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    moved = (x + away.to(x.device)).clamp(0, 1)
    step = options.eps * (1.25 if options.steps == 1 else 2.5 / options.steps)
    reduced = options.precision == "bfloat16"
    for _ in range(options.steps):
        moved.requires_grad_(True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=reduced):
            loss = F.cross_entropy(network(moved).float(), labels, reduction="sum")
        gradient = torch.autograd.grad(loss, moved)[0]
        moved = pgd_step(x, moved.detach(), gradient, options.adversarial, options.eps, step)
    return moved


def _order(data: Labelled, options: ClassifierOptions, epoch: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng((options.seed, 1, epoch))
    if not options.balance:
        return rng.permutation(len(data))
    counts = np.bincount(data.labels, minlength=len(data.classes))
    weights = 1 / counts[data.labels]
    return rng.choice(len(data), len(data), p=weights / weights.sum())


def _batches(
    data: Labelled,
    network: nn.Module,
    options: ClassifierOptions,
    epoch: int,
    part: int,
    parts: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    order = _order(data, options, epoch)
    batch = min(options.batch, len(order))
    starts = range(0, len(order) - batch + 1, batch)
    device = next(network.parameters()).device
    for number in range(part, len(starts) // parts * parts, parts):
        chosen = order[starts[number] : starts[number] + batch]
        rng = np.random.default_rng((options.seed, 3, epoch, number))
        x = augment(tensors(data.images[chosen]), rng, options.shift, options.turn, options.colour)
        labels = torch.from_numpy(data.labels[chosen])
        if options.adversarial != "none":
            x, labels = x.to(device), labels.to(device)
            answer = network.logits if isinstance(network, Learner) else network
            x = mislead(answer, x, labels, options, int(rng.integers(2**31)))
        yield x, labels


def _recall(guesses: Tensor, labels: Tensor, classes: int) -> float:
    """Mean over the classes of the share of their images that is named rightly."""
    right = (guesses == labels).double()
    return float(
        np.mean([right[labels == k].mean().item() for k in range(classes) if (labels == k).any()])
    )


def _validate(
    data: Labelled, options: ClassifierOptions, context: Context, network: nn.Module
) -> dict[str, float]:
    device = next(network.parameters()).device
    labels = torch.from_numpy(data.labels)
    guesses = []
    for start in range(0, len(data), 256):
        context.check()
        x = tensors(data.images[start : start + 256])
        guesses.append(network(x.to(device)).argmax(dim=1).cpu())
    found = torch.cat(guesses)
    score = _recall(found, labels, len(data.classes))
    metrics = {
        "val_accuracy": float((found == labels).double().mean()),
        "val_recall": score,
        "val_score": score,
    }
    if options.adversarial == "none":
        return metrics
    chosen = np.random.default_rng(options.seed).permutation(len(data))[:MOST_ATTACKED]
    some = data.part(chosen)
    labels, guesses = labels[chosen], []
    norm, eps, step = options.adversarial, options.eps, options.eps / 4
    quiet = Context(token=context.token)
    for start in range(0, len(some), 128):
        x = tensors(some.images[start : start + 128]).to(device)
        y = labels[start : start + 128].to(device)
        with torch.inference_mode(False):
            attacked = pgd(network, x.clone(), y.clone(), norm, eps, step, ATTACK_STEPS, quiet)
        guesses.append(network(attacked.images).argmax(dim=1).cpu())
    attacked_score = _recall(torch.cat(guesses), labels, len(data.classes))
    metrics["val_recall_attacked"] = attacked_score
    metrics["val_score"] = (score + attacked_score) / 2
    return metrics


def _unused(options: ClassifierOptions) -> set[str]:
    """Return the options that had no say in a training."""
    unused = set() if options.adversarial != "none" else {"eps", "steps"}
    if not options.is_transformer:
        unused |= {"patch", "stem", "ensemble_scale", "distill"}
    if not options.layers:
        unused.add("layers")
    if options.ensemble_scale == "none":
        unused.add("placement")
    if options.distill not in ("logit", "both"):
        unused.add("logit_weight")
    if options.distill not in ("hidden", "both"):
        unused.add("hidden_weight")
    if not options.teacher:
        unused |= {"teacher", "teacher_weight"}
        if options.distill == "none":
            unused.add("temperature")
    return unused


def _facts(
    options: ClassifierOptions, data: Labelled, inputs: TrainInputs, held: int, network: Classifier
) -> dict[str, Any]:
    # Cards travel, so they name no folder of this machine.
    chosen = {
        **asdict(options),
        "start": Path(options.start).name,
        "teacher": Path(options.teacher).name,
    }
    shown: dict[str, Any] = {"network": options.arch, "clamp": False}
    if isinstance(network.model, VisionTransformer):
        shown = network.model.config.to_dict()
    return {
        "task": "classification",
        "architecture": "vit" if options.is_transformer else "cnn",
        "options": {**shown, "resize": options.size},
        "input": asdict(InputSpec(mode="resize", tile=options.size, normalisation="unit")),
        "classes": list(data.classes),
        "data": f"{inputs.images.resolve().name}: {len(data)} images for training, {held} for "
        "validation and choice of the epoch.",
        "training": {k: v for k, v in chosen.items() if k not in _unused(options)},
    }


def _keep(
    folder: Path, facts: Mapping[str, Any], network: nn.Module, metrics: Mapping[str, float]
) -> None:
    write_of_run(network.state_dict(), folder, facts, metrics)


def run(inputs: TrainInputs, options: ClassifierOptions, context: Context) -> TrainResult:
    """Read the images, train and validate; :func:`napari_cvsuite.training.loop.fit` has the files.

    The score is the mean recall of the classes on the images held out; of an adversarial training,
    its mean with the same under attack.

    Raises
    ------
    ValueError
        There are too few classes or images, or the table cannot be used.
    ImageError
        An image cannot be read.
    WeightsError, UnknownModelError, DeviceError
        The start or the device is not to be had.
    RunFolderError
        The folder of the run cannot be written, or holds a damaged or another run.
    Cancelled
        The context was cancelled; running again with the same folder goes on.
    """
    device = choose_device(context.device)
    found = find_labelled(inputs.images, inputs.table, inputs.column)
    every = read_labelled(found, options.size, context)
    data, held = hold_out(every, options.held_out, options.seed)
    network = make_network(options, data)
    facts = _facts(options, data, inputs, len(held), network)
    validate = functools.partial(_validate, held, options, context)
    fields = {k: v for k, v in asdict(options).items() if k in LoopOptions.__annotations__}
    task = TrainingTask(
        network=network,
        batches=functools.partial(_batches, data, network, options),
        loss=make_loss(options, data, device),
        validate=validate if len(held) else lambda _: {},
        score_name="val_score" if len(held) else "",
        keep=functools.partial(_keep, inputs.out, facts),
        undecayed=undecayed(network) if options.is_transformer else frozenset(),
    )
    clip = 1.0 if options.is_transformer else 5.0
    outcome = fit(task, LoopOptions(**fields, clip=clip), inputs.out, context, device)
    model, best = inputs.out / MODEL, inputs.out / "best.pt"
    if best.exists() and not model.exists():
        network.load_state_dict(read_state_dict(best))
        with torch.inference_mode():
            measured = validate(network.eval()) if len(held) else {}
        _keep(inputs.out, facts, network, measured)
    return TrainResult(inputs.out, outcome.best, len(data), len(held), model, outcome.resumed)
