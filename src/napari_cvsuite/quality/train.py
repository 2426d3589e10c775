"""Train TOPIQ on good images that are spoilt in known ways."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.images import ImageError, cut_along, find_images, read
from napari_cvsuite.images.window import window_of
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.request import InputReference, RequestError
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.models.topiq import CFANet, TopiqConfig
from napari_cvsuite.models.weights import WeightsError, locate, read_state_dict
from napari_cvsuite.quality import losses
from napari_cvsuite.quality.distortions import DISTORTIONS, LEVELS, grained
from napari_cvsuite.quality.options import TrainOptions
from napari_cvsuite.quality.publish import calibrate, card_fields, temperature
from napari_cvsuite.quality.series import KINDS, LENGTH, Bank, Plan, bank
from napari_cvsuite.training.loop import LoopOptions, RunFolderError, TrainingTask, fit
from napari_cvsuite.training.publish import MODEL, write_of_run
from napari_cvsuite.training.result import TrainResult

__all__ = ["TrainInputs", "read_good", "run", "split"]

UInt8 = NDArray[np.uint8]
PER_VALIDATION_IMAGE = 2 * len(DISTORTIONS)
"""Series made of each validation image."""
_GRAINED = 0.5
"""Share of series that get the noise of a sensor after what spoils the light."""


@dataclass(frozen=True)
class TrainInputs:
    """Where the data lies and where the run is written.

    Parameters
    ----------
    images : Path
        Folder of good images.
    out : Path
        Folder of the run; one that holds an unfinished run is resumed.
    validation : tuple of str
        Stems of the validation images; empty takes every fifth, ``("none",)`` none at all.
    """

    images: Path
    out: Path
    validation: tuple[str, ...] = ()

    def references(self) -> tuple[InputReference, ...]:
        """Return the inputs of a request that asks for this training."""
        return (
            InputReference("file", str(self.images), "images"),
            InputReference("file", str(self.out), "out"),
            *(InputReference("text", name, "validation") for name in self.validation),
        )

    @classmethod
    def from_references(cls, references: Sequence[InputReference]) -> TrainInputs:
        """Rebuild from :meth:`references`; raises :class:`RequestError`."""
        found: dict[str, list[str]] = {}
        for one in references:
            found.setdefault(one.role, []).append(one.value)
        validation = tuple(found.pop("validation", []))
        if set(found) != {"images", "out"} or any(len(values) != 1 for values in found.values()):
            raise RequestError(
                "a training needs one input of each role images and out, and may have validation; "
                f"got {', '.join(sorted(found))}"
            )
        return cls(Path(found["images"][0]), Path(found["out"][0]), validation)


class _Trainee(CFANet):
    """The network as the loop feeds it: images, and where they count their references beside."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Map ``B x 3 x H x W`` or ``B x 6 x H x W`` to scores, logits and strengths."""
        # Convolutions of few channels are 1.4 times as quick with channels last on a CPU.
        one, other = (
            part.contiguous(memory_format=torch.channels_last) for part in (x[:, :3], x[:, 3:])
        )
        seen = self.examine(one, other if x.shape[1] == 6 else None)
        return seen.score[:, 0], seen.logits, seen.strengths

    def hold_norms(self) -> None:
        """Let batch normalisation use what it has measured, until the next call of ``train``."""
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.eval()


def read_good(path: Path, least: int) -> UInt8:
    """Return the first plane of an image, H x W x 3, for use as a good one.

    Raises
    ------
    ImageError
        It cannot be read, or is smaller than `least`.
    """
    image = cut_along(read(path), "auto").image
    plane = image.plane(next(image.planes()))
    if min(plane.shape[:2]) < least:
        raise ImageError(
            f"{path.name} is {plane.shape[1]} x {plane.shape[0]} pixels, but training needs "
            f"{least} on both sides; leave it out"
        )
    return np.rint(255 * window_of([plane], "auto").apply(plane)).astype(np.uint8)


def split(paths: Sequence[Path], validation: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Return the images to train on and those to validate on.

    Raises
    ------
    ValueError
        A name is unknown, or nothing is left to train on.
    """
    if tuple(validation) == ("none",):
        return list(paths), []
    chosen = set(validation) or {path.stem for path in paths[::5]}
    unknown = chosen - {path.stem for path in paths}
    if unknown:
        raise ValueError(
            f"there is no validation image {sorted(unknown)[0]!r} in the folder; correct the names"
        )
    train = [path for path in paths if path.stem not in chosen]
    if not train:
        raise ValueError("every image is a validation image; leave some to train on")
    return train, [path for path in paths if path.stem in chosen]


def _network(options: TrainOptions) -> _Trainee:
    torch.manual_seed(options.seed)
    network = _Trainee(
        TopiqConfig(
            semantic_model_name=options.backbone,
            use_ref=options.reference,
            inter_dim=options.width,
            num_heads=options.heads,
            gate_channels=options.gate,
            dprate=options.dropout,
            distortions=len(KINDS),
            fix_norms=False,
        )
    )
    network = network.to(memory_format=torch.channels_last)
    if not options.start:
        return network
    path = Path(options.start)
    if not path.is_file():
        path = locate(Catalogue().get(options.start))
    given, own = read_state_dict(path), network.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    if not any(key.startswith("semantic_model.") for key in fitting):
        raise WeightsError(
            f"{options.start} has another backbone than {options.backbone}; choose that of the file"
        )
    network.load_state_dict({**own, **fitting})
    return network


def _tensors(
    made: Bank,
    numbers: NDArray[np.int64],
    options: TrainOptions,
    rng: np.random.Generator,
    turn: tuple[int, bool] = (0, False),
    part: tuple[slice, slice] = (slice(None), slice(None)),
) -> tuple[Tensor, Tensor]:
    """Return crops of several series, ``N*L x C x S x S``, and their facts, ``N*L x 5``."""
    crops = made.crops[numbers][:, :, part[0], part[1]]
    if not options.reference:
        for one, kind in zip(crops, made.facts[numbers, 0, 1], strict=True):
            if DISTORTIONS[KINDS[int(kind)]].optical and rng.random() < _GRAINED:
                one[:] = grained(one, rng.uniform(0, options.grain), rng, rng.random() < 0.5)
    else:
        beside = made.references[numbers][:, None, part[0], part[1]]
        beside = np.broadcast_to(beside, crops.shape)
        crops = np.concatenate([crops, beside], axis=-1)
    crops = np.rot90(crops, turn[0], axes=(2, 3))
    crops = crops[:, :, :, ::-1] if turn[1] else crops
    pixels = crops.reshape(-1, *crops.shape[2:]).transpose(0, 3, 1, 2).astype(np.float32)
    facts = made.facts[numbers].reshape(-1, made.facts.shape[-1])
    return torch.from_numpy(pixels / np.float32(255)), torch.from_numpy(facts.copy())


def _batches(
    made: Bank, network: _Trainee, options: TrainOptions, epoch: int, part: int, parts: int
) -> Iterator[tuple[Tensor, Tensor]]:
    if epoch >= options.settle:
        network.hold_norms()
    rng = np.random.default_rng((options.seed, 1, epoch))
    side = min(options.view or options.size, options.size)
    order = rng.permutation(len(made.crops))
    starts = range(0, max(len(order) - options.batch + 1, 1), options.batch)
    for start in starts[part : len(starts) // parts * parts : parts]:
        turn = (int(rng.integers(4)), bool(rng.random() < 0.5))
        top, left = rng.integers(0, options.size - side + 1, 2)
        view = (slice(top, top + side), slice(left, left + side))
        numbers = np.sort(order[start : start + options.batch])
        yield _tensors(made, numbers, options, rng, turn, view)


def _loss(margin: float, output: tuple[Tensor, Tensor, Tensor], facts: Tensor) -> Tensor:
    """Label, order within series, kind and strength, together."""
    scores, logits, strengths = (one.float() for one in output)
    label, kind, level, other, other_level = facts.unbind(dim=1)
    levels = level.view(-1, LENGTH)
    directed = torch.tensor([k in DISTORTIONS and DISTORTIONS[k].direction for k in KINDS])
    ordered = directed.to(kind.device)[kind.long().view(-1, LENGTH)[:, 0]]
    order = losses.order_loss(scores.view(-1, LENGTH)[ordered], levels[ordered], margin)
    fit_ = F.mse_loss(scores, label)
    agree = losses.nin_loss(scores, label)
    # The kinds share the blame by their levels; what is not spoilt is "none".
    blame = torch.zeros_like(logits)
    blame.scatter_add_(1, kind.long()[:, None], level[:, None])
    blame.scatter_add_(1, other.long()[:, None], other_level[:, None])
    worst = blame / LEVELS
    blame[:, 0] = (level + other_level == 0).float()
    blame = blame / blame.sum(dim=1, keepdim=True)
    named = F.cross_entropy(logits, blame)
    # Strengths count for the kinds that are there alone; the logits say which those are.
    there = worst > 0
    strength = (strengths - worst).abs()[there].sum() / there.sum().clamp_min(1)
    # Scores come first. What is wrong in the order of a series is small in numbers: the worst of
    # it is a fraction of the margin, while naming kinds has a loss near one.
    return 30 * fit_ + 2 * agree + 50 * order + 0.3 * named + 0.2 * strength


def _validate(
    made: Bank, options: TrainOptions, context: Context, model: nn.Module
) -> dict[str, float]:
    device = next(model.parameters()).device
    scores, logits = [], []
    for number in range(len(made.crops)):
        context.check()
        rng = np.random.default_rng((options.seed, 2, number))
        images, _ = _tensors(made, np.array([number]), options, rng)
        score, named, _ = model(images.to(device))
        scores.append(score.float().cpu().numpy())
        logits.append(named.float().cpu())
    found, facts = np.array(scores), np.asarray(made.facts)
    directed = [DISTORTIONS[KINDS[int(k)]].direction for k in facts[:, 0, 1]]
    within = [
        -float(spearmanr(one, levels).statistic) if np.ptp(one) else 0.0
        for one, levels in zip(found[directed], facts[directed, :, 2], strict=True)
    ]
    label = float(spearmanr(found.ravel(), facts[..., 0].ravel()).statistic)
    true = torch.from_numpy(np.where(facts[..., 2] > 0, facts[..., 1], 0).ravel()).long()
    guessed = torch.cat(logits)
    return {
        "val_score": (float(np.mean(within)) + label) / 2,
        "val_srcc_level": float(np.mean(within)),
        "val_srcc_label": label,
        "val_kind_accuracy": float((guessed.argmax(dim=1) == true).double().mean()),
        "val_temperature": temperature(guessed, true),
    }


def _keep(
    folder: Path, facts: Mapping[str, Any], network: nn.Module, metrics: Mapping[str, float]
) -> None:
    """Write the model beside the run, its confidence calibrated, ready to be imported."""
    state = calibrate(network.state_dict(), metrics.get("val_temperature", 1.0))
    write_of_run(state, folder, facts, metrics)


def _banks(
    inputs: TrainInputs, parts: Sequence[Sequence[Path]], options: TrainOptions, context: Context
) -> list[Bank | None]:
    """Return the series to train on, and those to validate on if there are images for it."""
    found: list[Bank | None] = []
    counts = (options.series, PER_VALIDATION_IMAGE * len(parts[1]))
    seconds = (options.second, 0.0)
    for paths, count, second, part in zip(
        parts, counts, seconds, ("series", "validation"), strict=True
    ):
        if not paths:
            found.append(None)
            continue
        images = [read_good(path, options.size) for path in paths]
        plan = Plan(count, options.size, second, options.seed)
        names = [path.name for path in paths]
        try:
            found.append(bank(images, names, plan, inputs.out / part, context))
        except OSError as error:
            raise RunFolderError(
                f"Cannot write to {inputs.out}: {error.strerror or error}. Free some space there "
                "or choose another folder; the same command goes on from there."
            ) from error
    return found


def run(inputs: TrainInputs, options: TrainOptions, context: Context) -> TrainResult:
    """Make series, train and validate; see :func:`napari_cvsuite.training.loop.fit` for the files.

    The score is the mean of two rank correlations: with the level within a series, and with the
    label over all crops.

    Raises
    ------
    ValueError
        The folder has no images, or a validation name is unknown.
    ImageError
        An image cannot be read or is too small.
    DeviceError
        The device is not on this machine.
    RunFolderError
        The folder of the run cannot be written, or holds a damaged or another run.
    Cancelled
        The context was cancelled; running again with the same folder goes on.
    """
    device = choose_device(context.device)
    train, validation = split(find_images(inputs.images), inputs.validation)
    series, checks = _banks(inputs, (train, validation), options, context)
    assert series is not None
    network = _network(options)
    data = (
        f"{inputs.images.resolve().name}: {len(train)} images for training, {len(validation)} for "
        "validation and choice of the epoch; synthetic distortions."
    )
    # Cards travel, so they name no folder of this machine.
    chosen = {**asdict(options), "start": Path(options.start).name}
    facts = card_fields(network, chosen, data)
    validate = functools.partial(_validate, checks, options, context) if checks else None
    fields = {k: v for k, v in asdict(options).items() if k in LoopOptions.__annotations__}
    task = TrainingTask(
        network=network,
        batches=functools.partial(_batches, series, network, options),
        loss=functools.partial(_loss, options.margin),
        validate=validate or (lambda _: {}),
        score_name="val_score" if checks else "",
        keep=functools.partial(_keep, inputs.out, facts),
    )
    outcome = fit(task, LoopOptions(**fields), inputs.out, context, device)
    model, best = inputs.out / MODEL, inputs.out / "best.pt"
    if best.exists() and not model.exists():
        network.load_state_dict(read_state_dict(best))
        with torch.inference_mode():
            measured = validate(network.eval()) if validate else {}
        _keep(inputs.out, facts, network, measured)
    return TrainResult(
        inputs.out, outcome.best, len(train), len(validation), model, outcome.resumed
    )
