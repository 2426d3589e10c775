"""Distillation: from a teacher, and from a transformer's long paths to its short ones.

The paper (Chang et al., arXiv 2308.06548) names self-distillation along the paths; the losses, the
pairs and the weights here are this project's own definition. Trainings weigh logits by 1 and hidden
rows by 0.1 where these are asked for: on digits, 0.1 taught short paths most while the whole
network stayed as good, and 1 kept networks from learning (docs/paths.md has the numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.training.loop import LossTerms

__all__ = [
    "Answer",
    "Learner",
    "Objective",
    "hidden_loss",
    "logit_loss",
    "partners",
    "self_distillation",
]


def partners(num_layers: int) -> list[tuple[int, int]]:
    """Return the depth of every student and that of its teacher.

    Students are the depths from a third of the layers on, teachers a third further.

    Parameters
    ----------
    num_layers : int

    Raises
    ------
    ValueError
        There are fewer than two layers.
    """
    if num_layers < 2:
        raise ValueError(f"self-distillation needs two layers or more, got {num_layers}")
    third = -(-num_layers // 3)
    return [(depth, min(depth + third, num_layers)) for depth in range(third, num_layers)]


def logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``tau^2 KL(softmax(teacher/tau) || softmax(student/tau))``, the mean over images.

    Parameters
    ----------
    student, teacher : Tensor, shape (B, K)
        Logits; the teacher's get no gradient.
    temperature : float
        tau, above 0.
    """
    aim = (teacher.detach() / temperature).log_softmax(dim=1)
    guess = (student / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(guess, aim, reduction="batchmean", log_target=True)


def hidden_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of rows ``B x D``; the teacher's get no gradient."""
    return F.mse_loss(student, teacher.detach())


def self_distillation(
    logits: Tensor, rows: Tensor, pairs: Sequence[tuple[int, int]], temperature: float
) -> Tensor:
    """Return both losses of every student: :func:`logit_loss` and :func:`hidden_loss`.

    Parameters
    ----------
    logits : Tensor, shape (L + 1, B, K)
        By depth, 0 to L.
    rows : Tensor, shape (L + 1, B, D)
        What the head reads at each depth.
    pairs : sequence of (int, int)
        Depths of student and teacher; see :func:`partners`.
    temperature : float

    Returns
    -------
    Tensor, shape (len(pairs), 2)
    """
    losses = [
        torch.stack((logit_loss(logits[s], logits[t], temperature), hidden_loss(rows[s], rows[t])))
        for s, t in pairs
    ]
    return torch.stack(losses)


class Answer(NamedTuple):
    """What a :class:`Learner` says in training.

    Parameters
    ----------
    logits : Tensor, shape (B, K)
    images : Tensor, shape (B, 3, H, W)
        That it was given, in [0, 1].
    depths : Tensor or None, shape (L + 1, B, K)
        Logits after every number of layers, where paths are distilled.
    rows : Tensor or None, shape (L + 1, B, D)
        What the head read for them.
    """

    logits: Tensor
    images: Tensor
    depths: Tensor | None = None
    rows: Tensor | None = None


class Learner(Classifier):
    """A classifier that in training returns an :class:`Answer`; its keys are a classifier's.

    Parameters
    ----------
    model : nn.Module
    mean, std : sequence of float
    by_depth : bool
        Whether the answer has the depths of `model`, then a :class:`VisionTransformer`.
    """

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], by_depth: bool
    ) -> None:
        super().__init__(model, mean, std)
        self.by_depth = by_depth

    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``B x K`` alone, in any mode."""
        return super().forward(x)

    def forward(self, x: Tensor) -> Tensor | Answer:  # type: ignore[override]
        """Map ``B x 3 x H x W`` in [0, 1] to an answer; in eval mode to logits ``B x K``."""
        if not self.training:
            return self.logits(x)
        if not self.by_depth:
            return Answer(self.logits(x), x)
        assert isinstance(self.model, VisionTransformer)
        finals = [stream.final for stream in self.model.streams(self.normalize(x))]
        rows = [self.model.read(final) for final in finals]
        depths = [self.model.heads(row) for row in rows]
        return Answer(self.model.classify(finals[-1]), x, torch.stack(depths), torch.stack(rows))


@dataclass(frozen=True)
class Objective:
    """The loss of a :class:`Learner`.

    ``(1 - a) cross-entropy + a logit_loss(teacher) + w_logit mean(logit_loss of the students) +
    w_hidden mean(hidden_loss of the students)``; its terms are logged without their weights.

    Parameters
    ----------
    smoothing : float
        Of the labels.
    temperature : float
    logit_weight, hidden_weight : float
        Of the self-distillation.
    teacher : nn.Module, optional
        Maps images in [0, 1] to logits; in eval mode, on the device of the learner.
    teacher_weight : float
        a, in [0, 1].
    reduced : bool
        Ask the teacher in bfloat16.
    """

    smoothing: float = 0.0
    temperature: float = 2.0
    logit_weight: float = 1.0
    hidden_weight: float = 0.0
    teacher: nn.Module | None = None
    teacher_weight: float = 0.5
    reduced: bool = False

    def __call__(self, answer: Answer, labels: Tensor) -> LossTerms:
        """Return the loss of an answer and its terms."""
        logits = answer.logits.float()
        total = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        terms = {"loss_label": total.detach()}
        if self.teacher is not None:
            told = logit_loss(logits, self._told(answer.images), self.temperature)
            terms["loss_teacher"] = told.detach()
            total = (1 - self.teacher_weight) * total + self.teacher_weight * told
        if answer.depths is not None and answer.rows is not None:
            pairs = partners(len(answer.depths) - 1)
            depths, rows = answer.depths.float(), answer.rows.float()
            both = self_distillation(depths, rows, pairs, self.temperature).mean(dim=0)
            terms |= {"loss_logit": both[0].detach(), "loss_hidden": both[1].detach()}
            total = total + self.logit_weight * both[0] + self.hidden_weight * both[1]
        return LossTerms(total, terms)

    def _told(self, images: Tensor) -> Tensor:
        assert self.teacher is not None
        kind = images.device.type
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=self.reduced):
            told: Tensor = self.teacher(images)
        return told.float()
