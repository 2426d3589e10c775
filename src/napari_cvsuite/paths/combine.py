"""Paths combined anew: left out of the final sum, ranked, pruned step by step, weighed.

Pruning and EnsembleScale are ideas of arXiv 2308.06548 whose detail is not public to us: the
definitions are this project's. A pruned path leaves the sum that the classifier reads and is still
read by later layers, so that pruning is ``removed_final``. It may lower accuracy: look at the
held-out score.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.reading import checked, classify_rows
from napari_cvsuite.paths.rows import (
    Rows,
    RowsMemoryError,
    Score,
    cache_rows,
    chunks,
    logits_of,
    rows_from,
    score,
    score_of,
)
from napari_cvsuite.paths.scale import Fitted, fit_scale, folded, with_scale

__all__ = [
    "Fitted",
    "Pruning",
    "Ranked",
    "Rows",
    "RowsMemoryError",
    "Score",
    "Step",
    "cache_rows",
    "final_from_layer",
    "fit_scale",
    "folded",
    "greedy_prune",
    "logits_of",
    "rank_paths",
    "rows_from",
    "score",
    "with_scale",
]

RANKINGS = ("loss", "accuracy")


@dataclass(frozen=True)
class Ranked:
    """What leaving one path out of the final sum does.

    Parameters
    ----------
    number : int
        The path.
    loss, accuracy : float
        Change against the whole sum; a negative loss or positive accuracy is a gain.
    """

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Step:
    """One path taken out of the final sum, with the scores after it.

    Parameters
    ----------
    number : int
        The path.
    selection : Score
        On the images by which paths are chosen.
    held_out : Score or None
        On others, which tell whether the gain is real.
    """

    number: int
    selection: Score
    held_out: Score | None


def rank_paths(
    model: nn.Module, rows: Rows, by: str = "loss", context: Context | None = None
) -> list[Ranked]:
    """Order paths by what leaving each out does to labelled images, largest gain first.

    Parameters
    ----------
    model : nn.Module
    rows : Rows
    by : {"loss", "accuracy"}
        Which change counts; ties go to the lower number.
    context : Context, optional

    Raises
    ------
    ValueError
        The images have no labels, or the ranking is unknown.
    Cancelled
    """
    if by not in RANKINGS:
        raise ValueError(f"there is no ranking {by!r}; choose one of {', '.join(RANKINGS)}")
    pruning = Pruning(model, rows)
    trials = pruning.trials(context)
    ranked = [
        Ranked(number, one.loss - pruning.start.loss, one.accuracy - pruning.start.accuracy)
        for number, one in trials.items()
    ]
    return sorted(ranked, key=lambda one: one.loss if by == "loss" else -one.accuracy)


@dataclass
class Pruning:
    """Paths taken out of the final sum one by one, each of which can be undone.

    Parameters
    ----------
    model : nn.Module
    selection : Rows
        Labelled images by which paths are chosen.
    held_out : Rows, optional
        Others, that only tell whether the gain is real.

    Raises
    ------
    NotDecomposableError
        The network is no vision transformer.
    ValueError
        The images have no labels, or the network has but one class.
    """

    model: nn.Module
    selection: Rows
    held_out: Rows | None = None
    steps: list[Step] = field(default_factory=list, init=False)
    start: Score = field(init=False)
    start_held_out: Score | None = field(init=False)

    def __post_init__(self) -> None:
        self._network = checked(self.model)
        if self._network.config.num_classes < 2:
            raise ValueError("a network with one class is always right; nothing can be chosen")
        self.start, self.start_held_out = self._scores()

    @property
    def removed(self) -> list[int]:
        """Paths that are out, in the order of their removal."""
        return [step.number for step in self.steps]

    @property
    def kept(self) -> list[int]:
        """Paths that are still in the sum."""
        off = set(self.removed)
        return [number for number in range(len(self.selection.values)) if number not in off]

    @property
    def alpha(self) -> Tensor:
        """Weights of the pruned sum, 0 or 1, shape (P,)."""
        values = self.selection.values
        alpha = values.new_ones(len(values))
        alpha[self.removed] = 0
        return alpha

    @property
    def now(self) -> Score:
        """The score on the images of selection."""
        return self.steps[-1].selection if self.steps else self.start

    @exact()
    def trials(self, context: Context | None = None) -> dict[int, Score]:
        """Return the score that leaving out each path that is still in would give.

        Raises Cancelled.
        """
        context, rows = context or Context(), self.selection
        labels, kept = rows.wanted(self._network.config.num_classes), self.kept
        found: dict[int, list[Tensor]] = {number: [] for number in kept}
        for part in chunks(rows):
            values = rows.values[:, part]
            # Summed anew at every step: nothing of the rounding of earlier removals is left.
            whole = values[kept].sum(dim=0)
            for number in kept:
                context.check()
                found[number].append(classify_rows(self._network, whole - values[number]))
        return {number: score_of(torch.cat(parts), labels) for number, parts in found.items()}

    def remove(self, number: int) -> Step:
        """Take a path out by hand.

        Raises
        ------
        ValueError
            It is not in the sum, or it is the last.
        """
        if number not in self.kept:
            raise ValueError(f"path {number} is not in the sum; choose one of {self.kept}")
        if len(self.kept) == 1:
            raise ValueError("the last path of the sum has to stay")
        self.steps.append(Step(number, self.start, None))
        self.steps[-1] = Step(number, *self._scores())
        return self.steps[-1]

    def step(self, context: Context | None = None) -> Step | None:
        """Take out the path whose removal lowers the loss most; None if none lowers it.

        Ties go to the lower number. Raises Cancelled.
        """
        if len(self.kept) == 1:
            return None
        trials = self.trials(context)
        loss, number = min((one.loss, number) for number, one in trials.items())
        return self.remove(number) if loss < self.now.loss else None

    def undo(self) -> Step | None:
        """Put the path that was last taken out back; return its step, None if there is none."""
        return self.steps.pop() if self.steps else None

    def _scores(self) -> tuple[Score, Score | None]:
        sets = self.selection, self.held_out
        first, second = (None if one is None else self._score(one) for one in sets)
        assert first is not None
        return first, second

    @exact()
    def _score(self, rows: Rows) -> Score:
        labels, kept = rows.wanted(self._network.config.num_classes), self.kept
        parts = [rows.values[kept, part].sum(dim=0) for part in chunks(rows)]
        return score_of(torch.cat([classify_rows(self._network, one) for one in parts]), labels)


def greedy_prune(
    model: nn.Module,
    selection: Rows,
    held_out: Rows | None = None,
    context: Context | None = None,
) -> Pruning:
    """Take paths out of the final sum as long as one of them lowers the mean cross-entropy.

    At each step the path goes whose removal lowers it most, ties to the lower number; at least one
    path stays (our definition).

    Parameters
    ----------
    model : nn.Module
    selection : Rows
        Labelled images by which paths are chosen.
    held_out : Rows, optional
        Others, whose score stands beside each step.
    context : Context, optional
        Asked for cancellation; told of progress.

    Returns
    -------
    Pruning
        Its steps can be undone, and others made by hand.

    Raises
    ------
    NotDecomposableError, ValueError
        As for :class:`Pruning`.
    Cancelled
    """
    context, pruning = context or Context(), Pruning(model, selection, held_out)
    most = len(selection.values) - 1
    for done in range(most):
        context.progress(done, most, f"{done} paths pruned")
        if pruning.step(context) is None:
            break
    return pruning


@exact()
def final_from_layer(model: nn.Module, rows: Rows) -> Tensor:
    """Return the logits ``L + 1 x N x K`` of final sums that begin with layer path 0, 1, ..., L.

    Layer path 0 is the embedding, layer path l both paths of the l-th layer; from 0 on nothing is
    left out.
    """
    network: VisionTransformer = checked(model)
    found = []
    for k in range(network.config.num_layers + 1):
        kept = rows.values[max(0, 2 * k - 1) :]
        parts = [classify_rows(network, kept[:, part].sum(dim=0)) for part in chunks(rows)]
        found.append(torch.cat(parts))
    return torch.stack(found)
