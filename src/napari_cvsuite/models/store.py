"""Loaded models, shared between jobs and dropped when memory is short."""

from __future__ import annotations

import copy
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, current_context
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.models.weights import WeightsError, locate, read_state_dict

__all__ = [
    "BUILDERS",
    "Key",
    "ModelStore",
    "ShiftedDecision",
    "build_model",
    "default_store",
]

Builder = Callable[[ModelCard, Mapping[str, Tensor], str], nn.Module]
FORMS = ("fast", "plain")
DEFAULT_CAPACITY = 2 << 30


class Key(NamedTuple):
    """What makes two loaded models the same one."""

    name: str
    sha256: str
    device: str
    precision: str
    form: str


@dataclass
class _Entry:
    module: nn.Module | None = None
    size: int = 0
    leases: int = 0
    error: BaseException | None = None


class ModelStore:
    """A thread-safe cache of eval-mode networks.

    Parameters
    ----------
    capacity_bytes : int
        Idle models are dropped, least recently used first, while the sum is above this.
        Leased models stay, so the sum can exceed it.
    build : callable
        Returns the network of a card in a form, ``build(card, form)``.

    Notes
    -----
    Weights stay float32 at every precision: the reduced ones are for autocast, under which
    the network keeps the steps that need float32.
    """

    def __init__(self, capacity_bytes: int, build: Callable[[ModelCard, str], nn.Module]) -> None:
        self._capacity = capacity_bytes
        self._build = build
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._changed = threading.Condition()

    @contextmanager
    def lease(
        self,
        card: ModelCard,
        device: str,
        precision: str,
        form: str = "fast",
        exclusive: bool = False,
    ) -> Iterator[nn.Module]:
        """Lend a model for the length of a ``with`` block.

        Parameters
        ----------
        card : ModelCard
        device, precision : str
        form : {"fast", "plain"}
            For prediction, or with the reference's structure.
        exclusive : bool
            Lend a private plain copy, which the borrower may change or hook; `form` is ignored.
        """
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, got {form!r}")
        form = "plain" if exclusive else form
        key = Key(card.name, card.weights.sha256, device, precision, form)
        entry = self._acquire(key, card)
        try:
            assert entry.module is not None
            yield copy.deepcopy(entry.module).requires_grad_(True) if exclusive else entry.module
        finally:
            with self._changed:
                entry.leases -= 1
                self._shrink()

    def evict_all(self) -> None:
        """Drop every model that is not leased."""
        with self._changed:
            self._shrink(0)
        torch.cuda.empty_cache()  # Does nothing where CUDA was never used.

    def in_use(self) -> dict[Key, int]:
        """Return the number of leases of every leased model."""
        with self._changed:
            return {k: e.leases for k, e in self._entries.items() if e.leases}

    def loaded(self) -> dict[Key, int]:
        """Return the bytes of every model in memory, least recently used first."""
        with self._changed:
            return {k: e.size for k, e in self._entries.items() if e.module is not None}

    def _acquire(self, key: Key, card: ModelCard) -> _Entry:
        """Return the entry with one more lease, loading it unless another thread does."""
        while True:
            with self._changed:
                entry = self._entries.get(key)
                if entry is None:
                    entry = self._entries[key] = _Entry(leases=1)
                    break
                while entry.module is None and entry.error is None:
                    self._changed.wait(0.2)
                    current_context().check()
                if entry.module is not None and self._entries.get(key) is entry:
                    entry.leases += 1
                    self._entries.move_to_end(key)
                    return entry
                if entry.error is not None and not isinstance(entry.error, Cancelled):
                    raise entry.error
            # The loader was cancelled, or the entry dropped, meanwhile: this thread tries anew.
        self._load(key, card, entry)
        return entry

    def _load(self, key: Key, card: ModelCard, entry: _Entry) -> None:
        try:
            module = self._build(card, key.form).to(key.device).eval().requires_grad_(False)
        except BaseException as error:
            with self._changed:
                del self._entries[key]
                entry.error = error
                self._changed.notify_all()
            raise
        with self._changed:
            entry.module, entry.size = module, _bytes(module)
            self._entries.move_to_end(key)
            self._shrink()
            self._changed.notify_all()

    def _shrink(self, capacity: int | None = None) -> None:
        """Drop idle models, oldest first, down to the capacity; the lock is held."""
        limit = self._capacity if capacity is None else capacity
        total = sum(e.size for e in self._entries.values())
        for key, entry in list(self._entries.items()):
            if total <= limit and capacity is None:
                return
            if entry.leases == 0:
                total -= entry.size
                del self._entries[key]


def _bytes(module: nn.Module) -> int:
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _build_qtseg(card: ModelCard, state: Mapping[str, Tensor], form: str) -> nn.Module:
    from napari_cvsuite.models.adapters import build_qtseg
    from napari_cvsuite.models.qtseg_fast import fuse

    model = build_qtseg(state, int(card.options.get("num_heads", 8)))
    actual = model.config.to_dict()
    for option, value in card.options.items():
        stated = "MLFD" if value == "MLFF" else list(value) if isinstance(value, tuple) else value
        if option not in actual or actual[option] != stated:
            raise WeightsError(
                f"The card of {card.name!r} states {option}={value!r}, but its weights are those "
                f"of a network with {actual.get(option, 'no such option')!r}; correct the card."
            )
    made = fuse(model) if form == "fast" else model
    return made if card.threshold == 0.5 else ShiftedDecision(made, card.threshold)


def _build_topiq(card: ModelCard, state: Mapping[str, Tensor], form: str) -> nn.Module:
    from napari_cvsuite.models.topiq_weights import build_topiq

    model = build_topiq(state, card.options)
    if form == "plain":
        return model
    from napari_cvsuite.models.topiq_fast import fuse

    return fuse(model)


class ShiftedDecision(nn.Module):
    """A network of two classes whose decision lies at another probability than one half.

    Parameters
    ----------
    network : nn.Module
        Returns (logits, embedding).
    threshold : float
        Raw foreground probability that becomes one half.
    """

    def __init__(self, network: nn.Module, threshold: float) -> None:
        super().__init__()
        self.network = network
        self.shift = math.log(threshold / (1 - threshold))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, the foreground's lowered by the logit of the threshold."""
        logits, embedding = self.network(x)
        foreground = logits[:, -1:] - self.shift
        return torch.cat([logits[:, :-1], foreground], dim=1), embedding


def _build_cnn(card: ModelCard, state: Mapping[str, Tensor], form: str) -> nn.Module:
    from napari_cvsuite.models.cnn_weights import build_cnn

    made = build_cnn(state, card.options)
    _require_outputs(card, [p for p in made.parameters() if p.ndim == 2][-1].shape[0])
    # Jobs that look into a classifier need its plain form; a fused one would gain them nothing.
    return made


def _build_vit(card: ModelCard, state: Mapping[str, Tensor], form: str) -> nn.Module:
    from napari_cvsuite.models.vit import VisionTransformer
    from napari_cvsuite.models.vit_weights import build_vit

    made = build_vit(state, card.options)
    assert isinstance(made.model, VisionTransformer)
    _require_outputs(card, made.model.config.num_classes)
    return made


def _build_swin(card: ModelCard, state: Mapping[str, Tensor], form: str) -> nn.Module:
    from napari_cvsuite.models.swin_classifier import SwinTransformer
    from napari_cvsuite.models.swin_weights import build_swin

    made = build_swin(state, card.options)
    assert isinstance(made.model, SwinTransformer)
    _require_outputs(card, made.model.config.classes)
    return made


def _require_outputs(card: ModelCard, outputs: int) -> None:
    if outputs != len(card.classes):
        raise WeightsError(
            f"The card of {card.name!r} names {len(card.classes)} classes, but its weights have "
            f"{outputs} outputs; correct the card."
        )


BUILDERS: dict[str, Builder] = {
    "qtseg": _build_qtseg,
    "topiq": _build_topiq,
    "cnn": _build_cnn,
    "vit": _build_vit,
    "swin": _build_swin,
}
"""Makers of networks by architecture; assign to it to register one."""


def build_model(card: ModelCard, form: str) -> nn.Module:
    """Locate, read and build the network of `card`.

    Raises
    ------
    WeightsError
        Unknown architecture, or unusable weights.
    """
    if card.architecture not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise WeightsError(f"Unknown architecture {card.architecture!r}; known are: {known}.")
    from napari_cvsuite.models.adapters import require_scaling

    require_scaling(card)
    return BUILDERS[card.architecture](card, read_state_dict(locate(card)), form)


_singleton = threading.Lock()


def default_store() -> ModelStore:
    """Return the store that all doors of one process share."""
    with _singleton:
        return _make_default()


@lru_cache(maxsize=1)
def _make_default() -> ModelStore:
    return ModelStore(DEFAULT_CAPACITY, build_model)
