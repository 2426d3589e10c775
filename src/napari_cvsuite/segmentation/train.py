"""Train QTSeg on a folder of images and a folder of masks."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.request import InputReference, RequestError
from napari_cvsuite.models.adapters import build_qtseg
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.device import DeviceError, choose_device
from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig
from napari_cvsuite.models.qtseg_widen import widen
from napari_cvsuite.models.weights import WeightsError, locate, read_state_dict
from napari_cvsuite.segmentation import losses
from napari_cvsuite.segmentation.data import (
    CropDataset,
    Pair,
    find_pairs,
    group_weights,
    load_pair,
)
from napari_cvsuite.segmentation.metrics import image_metrics
from napari_cvsuite.segmentation.options import MIN_TILE, TrainOptions
from napari_cvsuite.segmentation.plane import predict_classes
from napari_cvsuite.training.loop import LoopOptions, Outcome, TrainingTask, fit
from napari_cvsuite.training.publish import MODEL, write_of_run
from napari_cvsuite.training.result import TrainResult

__all__ = ["SCORE", "Example", "TrainInputs", "fit_examples", "measure", "network_of", "run"]

SCORE = "val_dice"
"""What tells one epoch from another."""

Mask = NDArray[np.int64]
Example = tuple[NDArray[np.float32], Mask]
"""An image, H x W x 3 in [-1, 1], and its classes, H x W; :data:`IGNORE` counts for nothing."""
_CLASS_KEY = re.compile(r"^mask_decoder\.(mask_tokens|MLP_s\d)\.")


@dataclass(frozen=True)
class TrainInputs:
    """Where the data lies and where the run is written.

    Parameters
    ----------
    images, masks : Path
        Folders whose files match by stem.
    out : Path
        Folder of the run; one that holds an unfinished run is resumed.
    validation : tuple of str
        Stems of the validation images; empty takes every fifth, ``("none",)`` none at all.
    groups : Path, optional
        CSV file with a group for each name, for balanced sampling.
    group_column : str
        Its column.
    """

    images: Path
    masks: Path
    out: Path
    validation: tuple[str, ...] = ()
    groups: Path | None = None
    group_column: str = "kind"

    def references(self) -> tuple[InputReference, ...]:
        """Return the inputs of a request that asks for this training."""
        files = {"images": self.images, "masks": self.masks, "out": self.out, "groups": self.groups}
        return (
            *(InputReference("file", str(path), role) for role, path in files.items() if path),
            InputReference("text", self.group_column, "group_column"),
            *(InputReference("text", name, "validation") for name in self.validation),
        )

    @classmethod
    def from_references(cls, references: Sequence[InputReference]) -> TrainInputs:
        """Rebuild from :meth:`references`; raises :class:`RequestError`."""
        found: dict[str, list[str]] = {}
        for one in references:
            found.setdefault(one.role, []).append(one.value)
        validation = tuple(found.pop("validation", []))
        needed = {"images", "masks", "out"}
        optional = {"groups", "group_column"}
        single = all(len(values) == 1 for values in found.values())
        if not needed <= set(found) <= needed | optional or not single:
            raise RequestError(
                f"a training needs one input of each role {', '.join(sorted(needed))}, may have "
                f"{', '.join(sorted(optional))} and validation; got {', '.join(sorted(found))}"
            )
        paths = {role: Path(found[role][0]) for role in sorted(needed | {"groups"} & set(found))}
        column = {role: found[role][0] for role in ("group_column",) if role in found}
        return cls(**paths, **column, validation=validation)  # type: ignore[arg-type]


def _split(inputs: TrainInputs) -> tuple[list[Pair], list[Pair]]:
    pairs = find_pairs(inputs.images, inputs.masks)
    if inputs.validation == ("none",):
        return pairs, []
    chosen = set(inputs.validation) or {pair.name for pair in pairs[::5]}
    unknown = chosen - {pair.name for pair in pairs}
    if unknown:
        raise ValueError(
            f"validation image {sorted(unknown)[0]!r} is not in {inputs.images}; correct the names"
        )
    train = [pair for pair in pairs if pair.name not in chosen]
    if not train:
        raise ValueError("every image is a validation image; leave some to train on")
    return train, [pair for pair in pairs if pair.name in chosen]


def _batches(
    dataset: CropDataset,
    weights: NDArray[np.float64] | None,
    options: TrainOptions,
    epoch: int,
    part: int,
    parts: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    count = len(dataset)
    rng = np.random.default_rng((options.seed, epoch))
    order = np.concatenate(
        [
            rng.permutation(count) if weights is None else rng.choice(count, count, p=weights)
            for _ in range(options.crops)
        ]
    )
    starts = range(0, max(len(order) - options.batch + 1, 1), options.batch)
    if len(starts) < parts:
        raise OptionError(
            f"an epoch has {len(starts)} batches for {parts} devices; "
            "use more crops or fewer devices"
        )
    # Every device takes as many steps as the others, since they wait for each other.
    for start in starts[part : len(starts) // parts * parts : parts]:
        crops = [
            dataset.crop(epoch, start + i, int(index))
            for i, index in enumerate(order[start : start + options.batch])
        ]
        yield (
            torch.from_numpy(np.stack([image for image, _ in crops])),
            torch.from_numpy(np.stack([mask for _, mask in crops])),
        )


def _load(
    pairs: Sequence[Pair], options: TrainOptions, context: Context, what: str
) -> tuple[list[NDArray[np.float32]], list[Mask]]:
    images, masks = [], []
    for done, pair in enumerate(pairs):
        context.progress(done, len(pairs), f"reading {what} images")
        image, mask = load_pair(pair, options.classes, options.ignore)
        images.append(image)
        masks.append(mask)
    return images, masks


def network_of(options: TrainOptions) -> QTSeg:
    """Return the network to train: new, or with the weights of ``options.start``."""
    torch.manual_seed(options.seed)
    network = QTSeg(QTSegConfig(num_classes=options.classes, n_channel=options.width))
    if not options.start:
        return network
    path = Path(options.start)
    if not path.is_file():
        path = locate(Catalogue().get(options.start))
    given = build_qtseg(read_state_dict(path)).state_dict()
    if QTSegConfig.from_state_dict(given).n_channel < options.width:
        given = widen(given, options.width, options.seed)
    own = network.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    # What belongs to a class is learned anew where the number of classes differs.
    lacking = [k for k in own if k not in fitting and not _CLASS_KEY.search(k)]
    if lacking:
        raise WeightsError(
            f"{options.start} does not fit a network of width {options.width} ({lacking[0]}, and "
            f"{len(lacking) - 1} more, differ); choose its width, or a greater one"
        )
    network.load_state_dict({**own, **fitting})
    return network


def _tile(options: TrainOptions) -> int:
    """Return the side of the tiles: the area of a crop, if that leaves room beside the overlap."""
    return options.tile or max(MIN_TILE, round(options.size / options.scale))


def measure(
    model: nn.Module, examples: Sequence[Example], options: TrainOptions, context: Context
) -> dict[str, float]:
    """Return the means over images of the metrics, at the original resolution."""
    rows = []
    for image, truth in examples:
        context.check()
        predicted = predict_classes(model, image, _tile(options), context.check, options.scale)
        rows.append(image_metrics(predicted, truth, options.classes))
    means = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    known = {f"val_{key}": float(np.nanmean(v)) for key, v in means.items() if not _all_nan(v)}
    # Nothing to find in any image, and nothing found.
    return {"val_dice": 1.0, **known}


def _all_nan(values: NDArray[np.float64]) -> bool:
    return bool(np.isnan(values).all())


def _check_devices(options: TrainOptions, device: str) -> None:
    """Refuse several devices where the program cannot be started once for each."""
    if options.devices == 1:
        return
    if not device.startswith("cuda"):
        raise DeviceError(
            f"devices={options.devices} needs CUDA GPUs, but this run is on {device}; use devices=1"
        )
    there = torch.cuda.device_count()
    if options.devices > there:
        raise DeviceError(f"there are {there} GPUs, not {options.devices}; ask for fewer devices")
    if sys.argv[1:2] != ["train"]:
        raise DeviceError(
            "several devices are for the command line: run napari-cvsuite train segment --devices "
            f"{options.devices}, or use devices=1 here"
        )


def _facts(inputs: TrainInputs, options: TrainOptions, counts: tuple[int, int]) -> dict[str, Any]:
    """Return what the card of the trained model says besides its metrics."""
    return {
        "task": "segmentation",
        "classes": options.names
        or ["background", *(f"class {i}" for i in range(1, options.classes))],
        "license": "not stated",
        "description": f"Trained on {inputs.images.resolve().name}.",
        "data": f"{inputs.images.resolve().name}: {counts[0]} images for training, {counts[1]} for "
        "validation and choice of the epoch.",
        "input": {"mode": "native", "tile": _tile(options), "scale": options.scale},
        # Cards travel, so they name no folder of this machine.
        "training": {**asdict(options), "start": Path(options.start).name},
    }


def _keep(
    folder: Path, facts: Mapping[str, Any], network: nn.Module, metrics: Mapping[str, float]
) -> None:
    """Write the model beside the run, ready to be imported."""
    write_of_run(network.state_dict(), folder, facts, metrics)


def fit_examples(
    network: QTSeg,
    examples: Sequence[Example],
    validation: Sequence[Example],
    options: TrainOptions,
    folder: Path,
    context: Context,
    weights: NDArray[np.float64] | None = None,
    keep: Callable[[nn.Module, Mapping[str, float]], None] | None = None,
) -> Outcome:
    """Train a network on examples in memory; see :func:`napari_cvsuite.training.loop.fit`.

    Parameters
    ----------
    network : QTSeg
        Changed.
    examples, validation : sequence of Example
        Without validation the last weights are the best.
    options : TrainOptions
    folder : Path
        Of the run.
    context : Context
    weights : ndarray, optional
        How often each example is shown.
    keep : callable
        Called with the network and its metrics at every best validation.
    """
    dice_name = "binary_dice" if options.classes == 2 else "categorical_dice"
    criterion = losses.combined({"cross_entropy": 1.0, dice_name: 1.0})
    dataset = CropDataset(
        [image for image, _ in examples],
        [mask for _, mask in examples],
        options.size,
        options.scale_range,
        options.seed,
        options.scale,
        options.augment,
        options.orientation,
    )
    fields = {k: v for k, v in asdict(options).items() if k in LoopOptions.__annotations__}
    task = TrainingTask(
        network=network,
        batches=functools.partial(_batches, dataset, weights, options),
        loss=lambda output, target: criterion(output[0].float(), target),
        validate=lambda model: measure(model, validation, options, context),
        score_name=SCORE if validation else "",
        keep=keep,
    )
    return fit(task, LoopOptions(**fields), folder, context, choose_device(context.device))


def run(inputs: TrainInputs, options: TrainOptions, context: Context) -> TrainResult:
    """Train and validate; see :func:`napari_cvsuite.training.loop.fit` for the files written.

    ``model.safetensors`` and its card ``model.json`` are written beside them at every best
    validation, so that the model can be imported. The score is the validation Dice.

    Raises
    ------
    ValueError
        Images and masks do not match, or masks hold more classes than asked for.
    DeviceError
        The device is not on this machine, or several are asked for where that cannot be.
    RunFolderError
        The folder of the run cannot be written, or holds a damaged or another run.
    Cancelled
        The context was cancelled; running again with the same folder goes on.
    """
    _check_devices(options, choose_device(context.device))
    train, validation = _split(inputs)
    examples = list(zip(*_load(train, options, context, "training"), strict=True))
    held = list(zip(*_load(validation, options, context, "validation"), strict=True))
    weights = (
        group_weights(train, inputs.groups, inputs.group_column, options.balance)
        if inputs.groups
        else None
    )
    network = network_of(options)
    facts = _facts(inputs, options, (len(train), len(validation)))
    keep = functools.partial(_keep, inputs.out, facts)
    outcome = fit_examples(network, examples, held, options, inputs.out, context, weights, keep)
    model = inputs.out / MODEL
    best = inputs.out / "best.pt"
    if best.exists() and not model.exists():
        network.load_state_dict(read_state_dict(best))
        keep(network, {SCORE: outcome.best} if validation else {})
    return TrainResult(
        inputs.out,
        outcome.best,
        len(train),
        len(validation),
        model if model.exists() else None,
        outcome.resumed,
    )
