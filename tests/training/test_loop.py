from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.training.loop import (
    LoopOptions,
    LossTerms,
    Outcome,
    RunFolderError,
    TrainingTask,
    fit,
    learning_rate,
)


def test_step_schedule_of_the_paper() -> None:
    rates = [learning_rate("step", epoch, 350, 1e-3) for epoch in (0, 49, 50, 300, 349)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 1.5625e-5, 1.5625e-5])


def test_poly_schedule_of_the_paper() -> None:
    rates = [learning_rate("poly", epoch, 350, 1e-2) for epoch in (0, 1, 349)]
    assert rates == pytest.approx([1e-2, 1e-2, 9.6e-5], rel=0.01)


def test_cosine_warms_up_and_ends_near_zero() -> None:
    assert learning_rate("cosine", 0, 100, 1.0) == pytest.approx(0.25)
    assert learning_rate("cosine", 99, 100, 1.0) < 0.02
    with pytest.raises(ValueError, match="cosine"):
        learning_rate("magic", 0, 1, 1.0)


def _task(scores: list[float], kept: list[float]) -> TrainingTask:
    torch.manual_seed(0)
    given = iter(scores)
    return TrainingTask(
        network=nn.Linear(1, 1),
        batches=lambda epoch, part, parts: [(torch.ones(2, 1), torch.zeros(2, 1))],
        loss=nn.functional.mse_loss,
        validate=lambda network: {"score": next(given)},
        score_name="score",
        keep=lambda network, metrics: kept.append(metrics["score"]),
    )


def _options(**changes: object) -> LoopOptions:
    values: dict[str, object] = {
        "epochs": 4,
        "lr": 0.01,
        "weight_decay": 0.0,
        "schedule": "constant",
        "ema": 0.0,
        "validate_every": 1,
        "patience": 0,
        "seed": 0,
    }
    return LoopOptions(**{**values, **changes})  # type: ignore[arg-type]


def test_the_best_weights_are_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    kept: list[float] = []
    task = _task([0.1, 0.5, 0.4, 0.3, 0.9], kept)
    outcome = fit(task, _options(epochs=9, patience=2), tmp_path, Context())
    assert outcome == Outcome(best=0.5, epochs=4, resumed=0)
    assert kept == [0.1, 0.5]


def test_a_full_disk_leaves_the_last_epoch_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(_task([0.1], []), _options(epochs=1), tmp_path, Context())
    before = (tmp_path / "last.pt").read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunFolderError, match="Free some space"):
        fit(_task([0.2], []), _options(epochs=2), tmp_path, Context())
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_terms_of_a_loss_are_logged_as_their_means(tmp_path: Path) -> None:
    def batches(epoch: int, part: int, parts: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.ones(1, 1), torch.full((1, 1), float(aim))) for aim in (1, 3)]

    def loss(output: torch.Tensor, target: torch.Tensor) -> LossTerms:
        return LossTerms((output - target).square().mean(), {"loss_aim": target.mean()})

    task = replace(_task([0.1, 0.2], []), batches=batches, loss=loss)
    fit(task, _options(epochs=2), tmp_path, Context())
    with (tmp_path / "log.csv").open() as handle:
        assert [float(row["loss_aim"]) for row in csv.DictReader(handle)] == [2.0, 2.0]


def test_weight_decay_leaves_alone_what_is_spared(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, 1.0)
    nn.init.constant_(network.bias, 1.0)
    task = replace(
        _task([0.1], []),
        network=network,
        loss=lambda output, target: 0 * output.sum(),
        undecayed=frozenset({"bias"}),
    )
    fit(task, _options(epochs=1, lr=0.5, weight_decay=0.5), tmp_path, Context())
    # AdamW takes lr * decay of each weight; without a gradient nothing else moves.
    assert (network.weight.item(), network.bias.item()) == (0.75, 1.0)


def test_long_gradients_are_shortened(tmp_path: Path) -> None:
    steps = []
    for clip in (1.0, 5.0):
        task = replace(_task([0.1], []), loss=lambda output, target: 100 * output.sum())
        folder = tmp_path / str(clip)
        fit(task, _options(epochs=1, clip=clip), folder, Context())
        state = torch.load(folder / "last.pt", weights_only=True)["optimiser"]["state"]
        # The first moment is a tenth of the gradient; both parameters have the same one.
        steps.append(state[0]["exp_avg"].item() * 10 * 2**0.5)
    assert steps == pytest.approx([1.0, 5.0], rel=1e-4)


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from torch import nn
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.training.loop import LoopOptions, TrainingTask, fit

def batches(epoch, part, parts):
    # The gradient of the mean loss is that of both devices' batches together.
    assert parts == 2
    yield torch.full((1, 1), float(part + 1)), torch.zeros(1, 1)

torch.manual_seed(0)
network = nn.Linear(1, 1, bias=False)
nn.init.constant_(network.weight, 1.0)
task = TrainingTask(network, batches, lambda y, t: y.sum(), lambda n: {"score": 0.5}, "score")
options = LoopOptions(2, 0.1, 0.0, "constant", 0.0, 1, 0, 0, devices=2)
outcome = fit(task, options, Path(sys.argv[1]), Context("cpu"))
assert outcome.best == 0.5, outcome
# AdamW steps by the learning rate against a gradient of constant sign, whatever its size.
assert abs(network.weight.item() - 0.8) < 1e-3, network.weight
"""


@pytest.mark.slow
def test_two_devices_train_one_network(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # One of the two processes writes.
    assert len((tmp_path / "run/log.csv").read_text().splitlines()) == 3
