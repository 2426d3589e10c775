"""Shape bias: on images whose shape and texture disagree, which of them decides?

Cue conflict of Geirhos et al. 2019 (arXiv 1811.12231): each image has the shape of one category
and the texture of another; a file is named ``<shape><n>-<texture><m>.png``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath
from types import MappingProxyType

import torch
from torch import Tensor

from napari_cvsuite.training.accuracy import Rate, wilson

__all__ = [
    "PEOPLE",
    "RULES",
    "BiasCount",
    "ShapeBias",
    "categories16",
    "categories_of",
    "count_decisions",
    "decide",
    "parse_name",
    "shape_bias",
]

PEOPLE = (0.92, 0.99)
"""Least and largest shape bias of the ten people of Geirhos et al. 2019."""
RULES = ("mean", "sum", "max")
"""How probabilities of classes become the score of their category; the publication's first."""
_SYNONYMS = {"automobile": "car", "ship": "boat", "aeroplane": "airplane"}
_NAME = re.compile(r"([A-Za-z_]+)\d+-([A-Za-z_]+)\d+\.png", re.IGNORECASE)


@dataclass(frozen=True)
class BiasCount:
    """Counts of decisions.

    Parameters
    ----------
    n : int
        Trials whose shape and texture differ.
    n_shape, n_texture : int
        Those decided as the shape, and as the texture; the others are neither.
    """

    n: int
    n_shape: int
    n_texture: int

    @property
    def bias(self) -> Rate | None:
        """Ns / (Ns + Nt) with Wilson's 95 % interval; None if no trial was either."""
        decided = self.n_shape + self.n_texture
        return wilson(self.n_shape, decided) if decided else None

    @property
    def shape_share(self) -> float:
        """Ns / N. The bias hides poor recognition; this shows it."""
        return self.n_shape / self.n

    @property
    def texture_share(self) -> float:
        """Nt / N."""
        return self.n_texture / self.n


@dataclass(frozen=True)
class ShapeBias:
    """Shape bias of one observer.

    Parameters
    ----------
    total : BiasCount
    by_shape : mapping of str to BiasCount
        The trials of each shape category that has any.
    left_out : int
        Images whose shape is their texture, or of a category that the observer does not know.
    """

    total: BiasCount
    by_shape: Mapping[str, BiasCount]
    left_out: int


@functools.cache
def categories16() -> Mapping[str, tuple[int, ...]]:
    """Return the 16 categories of the benchmark with their ImageNet classes, 207 in all.

    In alphabetical order; classes count from 0 in the usual order. The lists come from
    bethgelab/model-vs-human (MIT licence).
    """
    file = resources.files("napari_cvsuite.neurons").joinpath("categories16.json")
    indices = json.loads(file.read_text(encoding="utf-8"))["indices"]
    return MappingProxyType({name: tuple(indices[name]) for name in sorted(indices)})


def categories_of(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return which of the 16 categories a classifier has, by the names of its classes.

    Definition of this project: results are not comparable with published values. CIFAR-10 has
    seven: airplane, boat (ship), bird, car (automobile), cat, dog and truck.

    Parameters
    ----------
    classes : sequence of str
        In the order of the logits.

    Raises
    ------
    ValueError
        Fewer than two are found.
    """
    found: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        plain = name.strip().lower()
        found.setdefault(_SYNONYMS.get(plain, plain), []).append(index)
    known = {name: tuple(found[name]) for name in categories16() if name in found}
    if len(known) < 2:
        raise ValueError(
            f"fewer than two of the classes are called {', '.join(categories16())}; say which "
            "classes belong to which category of your images"
        )
    return known


def parse_name(file: str) -> tuple[str, str]:
    """Return shape and texture of a stimulus.

    Parameters
    ----------
    file : str
        Name or path, such as ``cat7-elephant1.png``.

    Raises
    ------
    ValueError
        It is not named so.
    """
    match = _NAME.fullmatch(PurePath(file).name)
    if match is None:
        raise ValueError(f"{file!r} is not named like cat7-elephant1.png: shape, then texture")
    return match[1].lower(), match[2].lower()


def decide(
    logits: Tensor, categories: Mapping[str, Sequence[int]] | None = None, rule: str = "mean"
) -> Tensor:
    """Return the category of largest score.

    Parameters
    ----------
    logits : Tensor of float, shape (N, K)
    categories : mapping of str to sequence of int, optional
        Classes of each category, from 0; left out, :func:`categories16`.
    rule : {"mean", "sum", "max"}
        Score of a category: this of the softmax probabilities of its classes, of all K. Only
        "mean", that of Geirhos et al. 2019, is comparable with published values.

    Returns
    -------
    Tensor of int64, shape (N,)
        Position in `categories`; the first of equal scores.

    Raises
    ------
    ValueError
        The logits, categories or rule cannot be used.
    """
    groups = categories16() if categories is None else categories
    if rule not in RULES:
        raise ValueError(f"the rule is one of {', '.join(RULES)}; got {rule!r}")
    if logits.ndim != 2 or logits.numel() == 0 or not bool(logits.isfinite().all()):
        raise ValueError(
            f"logits must be finite numbers, one row an image; got the shape {tuple(logits.shape)}"
        )
    if len(groups) < 2:
        raise ValueError("a decision needs two categories or more")
    classes = logits.shape[1]
    for name, indices in groups.items():
        if not indices or min(indices) < 0 or max(indices) >= classes:
            raise ValueError(
                f"category {name!r} needs classes between 0 and {classes - 1}; got "
                f"{list(indices)}: is this a network of other classes?"
            )
    # Not every device has float64, in which near ties fall right.
    probability = logits.detach().cpu().double().softmax(dim=1)
    scores = [_score(probability[:, list(indices)], rule) for indices in groups.values()]
    return torch.stack(scores, dim=1).argmax(dim=1)


def _score(probability: Tensor, rule: str) -> Tensor:
    if rule == "max":
        return probability.amax(dim=1)
    return probability.mean(dim=1) if rule == "mean" else probability.sum(dim=1)


def count_decisions(
    files: Sequence[str], decisions: Sequence[str], categories: Sequence[str] | None = None
) -> ShapeBias:
    """Count decisions for shape and for texture.

    Parameters
    ----------
    files : sequence of str
        Names of the stimuli.
    decisions : sequence of str
        Category decided for each.
    categories : sequence of str, optional
        Those that could be decided; left out, the 16. Only stimuli whose shape and texture are
        both among them count.

    Raises
    ------
    ValueError
        The numbers of files and decisions differ, a file has another name, or none counts.
    """
    if len(files) != len(decisions):
        raise ValueError(f"got {len(decisions)} decisions for {len(files)} files")
    known = set(categories16() if categories is None else categories)
    rows: dict[str, list[tuple[bool, bool]]] = {}
    for file, decision in zip(files, decisions, strict=True):
        shape, texture = parse_name(file)
        if shape != texture and {shape, texture} <= known:
            rows.setdefault(shape, []).append((decision == shape, decision == texture))
    trials = [row for found in rows.values() for row in found]
    if not trials:
        raise ValueError(
            f"no image has a shape and another texture among {', '.join(sorted(known))}"
        )
    by_shape = {shape: _counted(rows[shape]) for shape in sorted(rows)}
    return ShapeBias(_counted(trials), by_shape, len(files) - len(trials))


def _counted(rows: Sequence[tuple[bool, bool]]) -> BiasCount:
    return BiasCount(len(rows), sum(shape for shape, _ in rows), sum(other for _, other in rows))


def shape_bias(
    logits: Tensor,
    files: Sequence[str],
    categories: Mapping[str, Sequence[int]] | None = None,
    rule: str = "mean",
) -> ShapeBias:
    """Return the shape bias of a network from its logits on cue-conflict images.

    Parameters
    ----------
    logits : Tensor of float, shape (N, K)
    files : sequence of str
        Names of the N stimuli.
    categories, rule
        See :func:`decide`.

    Raises
    ------
    ValueError
        See :func:`decide` and :func:`count_decisions`.
    """
    names = list(categories16() if categories is None else categories)
    decisions = decide(logits, categories, rule).tolist()
    return count_decisions(files, [names[number] for number in decisions], names)
