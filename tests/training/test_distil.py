"""Distillation: its losses, who learns from whom, and what is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from kits import load_rule
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.vit import VisionTransformer, build
from napari_cvsuite.training.distil import (
    Answer,
    Learner,
    Objective,
    hidden_loss,
    logit_loss,
    partners,
    self_distillation,
)

rule = load_rule("vit_paths")
CONFIG: dict[str, Any] = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_dim": 12,
    "num_layers": 4,
    "num_heads": 2,
    "mlp_dim": 16,
    "num_classes": 3,
}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
LABELS = torch.tensor([0, 2, 1, 0])


def learner(by_depth: bool = True, **changes: Any) -> Learner:
    """Return a learner in training, the same in every call."""
    torch.manual_seed(0)
    return Learner(build({**CONFIG, **changes}), MEAN, STD, by_depth).train()


@pytest.fixture
def x() -> Tensor:
    """Four images in [0, 1]."""
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def depths(model: VisionTransformer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and rows after every number of layers."""
    rows = torch.stack([model.read(stream.final) for stream in model.streams(x)])
    return torch.stack([model.heads(row) for row in rows]), rows


def test_losses_are_those_of_the_conformance_kit() -> None:
    def losses(
        state: Mapping[str, Any], config: Mapping[str, Any], x: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        model = build(config)
        model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        last = model.config.num_layers
        with torch.no_grad():
            logits, rows = depths(model, torch.from_numpy(x))
            pairs = [(depth, last) for depth in range(last)]
            return self_distillation(logits, rows, pairs, rule.TAU).numpy()

    rule.check({"distill": losses}, verbose=False)


@pytest.mark.parametrize(
    ("layers", "pairs"),
    [
        (2, [(1, 2)]),
        (3, [(1, 2), (2, 3)]),
        (4, [(2, 4), (3, 4)]),
        (8, [(3, 6), (4, 7), (5, 8), (6, 8), (7, 8)]),
        (12, [(4, 8), (5, 9), (6, 10), (7, 11), (8, 12), (9, 12), (10, 12), (11, 12)]),
    ],
)
def test_students_learn_from_a_third_further(layers: int, pairs: list[tuple[int, int]]) -> None:
    assert partners(layers) == pairs


def test_one_layer_has_no_student() -> None:
    with pytest.raises(ValueError, match="two layers or more, got 1"):
        partners(1)


def test_losses_of_small_numbers() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * np.log(3.0), 0.0]])
    # At temperature 2 the teacher says 3/4 and 1/4, the student a half each.
    wanted = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert float(logit_loss(student, teacher, 2.0)) == pytest.approx(wanted, rel=1e-5)
    two = logit_loss(student.repeat(2, 1), torch.cat([teacher, student]), 2.0)
    assert float(two) == pytest.approx(wanted / 2, rel=1e-5)
    assert float(hidden_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 4.0]]))) == 2.5


def test_teachers_get_no_gradient_and_students_do() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 2, 3, requires_grad=True)
    rows = torch.randn(5, 2, 6, requires_grad=True)
    self_distillation(logits, rows, [(1, 4), (2, 4)], 2.0).sum().backward()
    for leaf in (logits, rows):
        assert leaf.grad is not None
        reached = leaf.grad.flatten(1).abs().amax(dim=1) > 0
        assert reached.tolist() == [False, True, True, False, False]


def test_a_learner_is_a_classifier_to_everyone_else(x: Tensor) -> None:
    made = learner()
    torch.manual_seed(0)
    plain = Classifier(build(CONFIG), MEAN, STD).eval()
    assert made.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(made.state_dict())
    answer = made(x)
    assert isinstance(answer, Answer) and torch.equal(answer.images, x)
    assert torch.equal(answer.logits, plain(x)) and torch.equal(made.logits(x), plain(x))
    assert torch.equal(made.eval()(x), plain(x))


@pytest.mark.parametrize("scale", ["none", "channel"])
def test_an_answer_holds_every_depth(scale: str, x: Tensor) -> None:
    made = learner(ensemble_scale=scale)
    answer = made(x)
    assert isinstance(made.model, VisionTransformer)
    logits, rows = depths(made.model, made.normalize(x))
    assert torch.equal(answer.depths, logits) and torch.equal(answer.rows, rows)
    assert torch.equal(answer.depths[-1], answer.logits)
    assert answer.depths.shape == (5, 4, 3) and answer.rows.shape == (5, 4, 12)


def _gradients(made: Learner, objective: Objective, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    total = objective(made(x), LABELS).total
    return total, list(torch.autograd.grad(total, list(made.parameters())))


def test_without_weight_it_is_plain_training(x: Tensor) -> None:
    off = Objective(smoothing=0.1, logit_weight=0.0, hidden_weight=0.0)
    total, gradients = _gradients(learner(), off, x)
    plain = learner(by_depth=False)
    loss = F.cross_entropy(plain.logits(x), LABELS, label_smoothing=0.1)
    assert torch.equal(total, loss)
    wanted = torch.autograd.grad(loss, list(plain.parameters()))
    assert all(map(torch.equal, gradients, wanted))


def test_terms_are_reported_and_weighed(x: Tensor) -> None:
    answer = learner()(x)
    total, terms = Objective(logit_weight=0.5, hidden_weight=3.0)(answer, LABELS)
    label = F.cross_entropy(answer.logits, LABELS)
    both = self_distillation(answer.depths, answer.rows, [(2, 4), (3, 4)], 2.0).mean(dim=0)
    assert list(terms) == ["loss_label", "loss_logit", "loss_hidden"]
    for value, wanted in zip(terms.values(), (label, *both), strict=True):
        assert torch.equal(value, wanted) and not value.requires_grad
    assert torch.allclose(total, label + 0.5 * both[0] + 3 * both[1])


class _Shift(nn.Module):
    """Says what another network says, and notes what it saw."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Linear(3 * 8 * 8, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        out: Tensor = self.layer(x.flatten(1))
        return out


@pytest.mark.parametrize("by_depth", [False, True])
def test_a_teacher_is_asked_for_the_same_images_and_stays(by_depth: bool, x: Tensor) -> None:
    teacher = _Shift()
    objective = Objective(logit_weight=0.0, teacher=teacher, teacher_weight=0.25, temperature=3.0)
    made = learner(by_depth)
    total, terms = objective(made(x), LABELS)
    assert torch.equal(teacher.seen[0], x)
    told = logit_loss(made.logits(x), teacher(x), 3.0)
    assert torch.allclose(terms["loss_teacher"], told)
    assert torch.allclose(total, 0.75 * terms["loss_label"] + 0.25 * told)
    total.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in made.parameters())
