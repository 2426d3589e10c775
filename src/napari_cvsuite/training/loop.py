"""The training loop that every network shares, on lightning Fabric.

A task hands over a network, a way to make the batches of an epoch, a loss and a validation;
the loop does optimiser, schedule, weight average, checkpoints, exact resume, log and early stop.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.training.curve import draw_curve

__all__ = [
    "LoopOptions",
    "LossTerms",
    "Outcome",
    "RunFolderError",
    "TrainingTask",
    "fit",
    "learning_rate",
]

Batch = tuple[Tensor, Tensor]


class RunFolderError(RuntimeError):
    """The folder of a run cannot be written, or holds a damaged or another run."""


@dataclass(frozen=True)
class LoopOptions:
    """What the loop needs to know; see the options of the tasks for the meaning."""

    epochs: int
    lr: float
    weight_decay: float
    schedule: str
    ema: float
    validate_every: int
    patience: int
    seed: int
    precision: str = "float32"
    devices: int = 1
    clip: float = 5.0


class LossTerms(NamedTuple):
    """A loss made of several terms.

    Parameters
    ----------
    total : Tensor
        What is minimised, a scalar.
    terms : mapping of str to Tensor
        Scalars that are logged beside it, by the name of their column.
    """

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainingTask:
    """What a task hands to the loop.

    Parameters
    ----------
    network : nn.Module
    batches : callable
        (epoch, part, parts) -> iterable of (input, target): the share of one of `parts` devices,
        equally long for all; a function of its arguments alone, so runs can resume.
    loss : callable
        (output, target) -> scalar, or :class:`LossTerms`.
    validate : callable
        Network in eval mode -> metrics; ``score_name`` among them, larger is better.
    score_name : str
        Empty when there is nothing to validate on: then the last weights are the best.
    keep : callable, optional
        (network, metrics) -> None, called with the best weights so far.
    undecayed : set of str
        Names of the parameters that weight decay leaves alone.
    """

    network: nn.Module
    batches: Callable[[int, int, int], Iterable[Batch]]
    loss: Callable[[Any, Tensor], Tensor | LossTerms]
    validate: Callable[[nn.Module], Mapping[str, float]]
    score_name: str
    keep: Callable[[nn.Module, Mapping[str, float]], None] | None = None
    undecayed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Parameters
    ----------
    best : float
        Best validation score; minus infinity without validation.
    epochs : int
        Epochs finished in all.
    resumed : int
        Epochs that were on disk at the start.
    """

    best: float
    epochs: int
    resumed: int


def learning_rate(schedule: str, epoch: int, epochs: int, base: float) -> float:
    """Learning rate of an epoch (counted from 0).

    ``step`` halves every 50 epochs and ``poly`` is ``(1 - t/T)**0.9``, both with a floor of 1e-5
    (arXiv 2412.17241, section IV); ``cosine`` warms up over 3 epochs.

    Raises
    ------
    ValueError
        Unknown schedule.
    """
    if schedule == "constant":
        return base
    if schedule == "step":
        return max(float(base * 0.5 ** (epoch // 50)), min(1e-5, base))
    if schedule == "poly":
        # The released counter lags by one: epochs 0 and 1 share the first value.
        return max(float(base * (1 - max(epoch - 1, 0) / epochs) ** 0.9), min(1e-5, base))
    if schedule == "cosine":
        warm = min((epoch + 1) / 4, 1.0)
        return warm * base * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * epoch / epochs)))
    raise ValueError(f"unknown schedule {schedule!r}; use cosine, step, poly or constant")


class _Run:
    """State of one run: everything that a checkpoint must hold to continue exactly."""

    def __init__(self, task: TrainingTask, options: LoopOptions, device: str) -> None:
        kind, _, index = device.partition(":")
        devices: int | list[int] = options.devices
        if kind == "cuda" and options.devices == 1:
            devices = [int(index or 0)]
        self.fabric = Fabric(
            accelerator={"cuda": "cuda", "mps": "mps"}.get(kind, "cpu"),
            devices=devices,
            strategy="ddp" if options.devices > 1 else "auto",
            precision="bf16-mixed" if options.precision == "bfloat16" else "32-true",
        )
        if options.devices > 1:
            # Starts this program again for every further device.
            self.fabric.launch()
        optimiser = torch.optim.AdamW(
            _groups(task, options.weight_decay), lr=options.lr, weight_decay=options.weight_decay
        )
        self.average: AveragedModel | None = None
        if options.ema > 0:
            average = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(task.network, multi_avg_fn=average, use_buffers=True).to(
                self.fabric.device
            )
        self.model, self.optimiser = self.fabric.setup(task.network, optimiser)
        self.epoch = 0
        self.best = -math.inf
        self.stale = 0

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the weight average if there is one."""
        return self.average.module if self.average is not None else self.model.module

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "best": self.best,
            "stale": self.stale,
            "model": self.model.module.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.best, self.stale = state["epoch"], state["best"], state["stale"]
        self.model.module.load_state_dict(state["model"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["torch_rng"])


def _groups(task: TrainingTask, decay: float) -> list[dict[str, Any]]:
    """Return the groups of parameters of the optimiser: one for each weight decay."""
    named = dict(task.network.named_parameters())
    decayed = [value for name, value in named.items() if name not in task.undecayed]
    spared = [value for name, value in named.items() if name in task.undecayed]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": decay}]
    return [*groups, {"params": spared, "weight_decay": 0.0}] if spared else groups


def fit(
    task: TrainingTask,
    options: LoopOptions,
    folder: Path,
    context: Context,
    device: str | None = None,
) -> Outcome:
    """Train until the last epoch or until validation stops gaining.

    Writes ``last.pt`` (everything, after each epoch), ``best.pt`` (weights of the best
    validation), ``log.csv`` and ``curve.png`` into `folder`; a folder with ``last.pt`` is resumed.

    Parameters
    ----------
    task : TrainingTask
    options : LoopOptions
    folder : Path
        Made if needed.
    context : Context
        Progress, cancellation and pause points.
    device : str, optional
        Default that of the context.

    Returns
    -------
    Outcome

    Raises
    ------
    Cancelled
        The context was cancelled; the last finished epoch is on disk.
    RunFolderError
        The folder cannot be written, or what it holds does not fit.
    FloatingPointError
        The loss is no longer finite.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    run = _Run(task, options, device or context.device)
    last = folder / "last.pt"
    if last.exists():
        _resume(run, last)
        context.log.info("resumed after epoch %d", run.epoch)
    resumed = run.epoch
    while run.epoch < options.epochs and not (options.patience and run.stale >= options.patience):
        started = time.monotonic()
        row = _train_epoch(task, options, run, context)
        run.epoch += 1
        validated = run.epoch % options.validate_every == 0 or run.epoch == options.epochs
        if validated:
            row |= _validate(task, run, folder)
        row["seconds"] = time.monotonic() - started
        if run.fabric.global_rank == 0:
            _record(task, run, row, folder, validated)
        context.log.info("%s", {k: round(v, 5) for k, v in row.items()})
    return Outcome(run.best, run.epoch, resumed)


def _resume(run: _Run, last: Path) -> None:
    try:
        state = torch.load(last, map_location="cpu", weights_only=True)
    # A damaged file can make torch raise anything.
    except Exception as error:
        raise RunFolderError(
            f"{last} is damaged ({type(error).__name__}); delete it to start anew, or choose "
            "another folder"
        ) from error
    try:
        run.restore(state)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{last.parent} holds a run of another network or with other settings; choose another "
            f"folder, or the options of that run ({str(error).splitlines()[0]})"
        ) from error


def _train_epoch(
    task: TrainingTask, options: LoopOptions, run: _Run, context: Context
) -> dict[str, float]:
    rate = learning_rate(options.schedule, run.epoch, options.epochs, options.lr)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    run.model.train()
    losses: list[float] = []
    sums: dict[str, float] = {}
    for inputs, target in task.batches(run.epoch, run.fabric.global_rank, run.fabric.world_size):
        context.pause_point()
        output = run.model(inputs.to(run.fabric.device))
        found = task.loss(output, target.to(run.fabric.device))
        loss, terms = found if isinstance(found, LossTerms) else (found, {})
        run.fabric.backward(loss)
        run.fabric.clip_gradients(run.model, run.optimiser, max_norm=options.clip)
        run.optimiser.step()
        run.optimiser.zero_grad(set_to_none=True)
        if run.average is not None:
            run.average.update_parameters(run.model.module)
        losses.append(loss.item())
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item()
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the loss became {losses[-1]} in epoch {run.epoch + 1}; lower the learning rate"
            )
        context.progress(run.epoch, options.epochs, f"epoch {run.epoch + 1}, loss {losses[-1]:.4f}")
    steps = max(len(losses), 1)
    row = {"epoch": float(run.epoch + 1), "lr": rate, "loss": sum(losses) / steps}
    return row | {name: total / steps for name, total in sums.items()}


def _validate(task: TrainingTask, run: _Run, folder: Path) -> dict[str, float]:
    """Measure on the first device, and keep the weights if they are the best so far."""
    network = run.evaluated.eval()
    first = run.fabric.global_rank == 0
    metrics: dict[str, float] = {}
    if first and task.score_name:
        with torch.inference_mode():
            metrics = dict(task.validate(network))
    metrics = run.fabric.broadcast(metrics)
    score = metrics.get(task.score_name, math.inf)
    if score <= run.best and task.score_name:
        run.stale += 1
        return metrics
    if task.score_name:
        run.best, run.stale = score, 0
    if first:
        _save(network.state_dict(), folder / "best.pt")
        if task.keep is not None:
            task.keep(network, metrics)
    return metrics


def _record(
    task: TrainingTask, run: _Run, row: Mapping[str, float], folder: Path, validated: bool
) -> None:
    with _writing(folder):
        rows = _append(folder / "log.csv", row)
        if validated:
            draw_curve(rows, task.score_name, folder / "curve.png")
    _save(run.state(), folder / "last.pt")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"Cannot write to {folder}: {error.strerror or error}. Free some space there or choose "
            "another folder; the same command goes on after the last finished epoch."
        ) from error


def _save(state: Mapping[str, Any], path: Path) -> None:
    """Write so that a kill in the middle leaves the previous file whole."""
    partial = path.with_suffix(".partial")
    with _writing(path.parent):
        try:
            torch.save(state, partial)
            partial.replace(path)
        except RuntimeError as error:  # How torch reports a full disk.
            raise OSError(str(error)) from error
        finally:
            partial.unlink(missing_ok=True)


def _append(path: Path, row: Mapping[str, float]) -> list[dict[str, str]]:
    """Add a row to a CSV file, and return all; columns that come later extend the header."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
    # What was logged after the checkpoint that a run resumes from is done again.
    rows = [each for each in rows if float(each["epoch"]) < row["epoch"]]
    rows.append({key: f"{value:.6g}" for key, value in row.items()})
    columns = list(dict.fromkeys(key for each in rows for key in each))
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
    return rows
