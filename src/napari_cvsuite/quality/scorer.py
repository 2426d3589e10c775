"""Bring planes to the network of a card and back, giving way when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.transform import resize
from torch import Tensor, nn

from napari_cvsuite.images import ImageError, Tile, plan_tiles
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.ladder import Ladder, Plan
from napari_cvsuite.models.catalog import CardError, Catalogue, ModelCard
from napari_cvsuite.models.device import choose_device, choose_precision
from napari_cvsuite.models.local import completed
from napari_cvsuite.models.planes import Pixels
from napari_cvsuite.models.store import default_store
from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.version import __version__

__all__ = ["Opinion", "Scorer", "quality_card"]

T = TypeVar("T")
WHOLE = 1.5
"""Planes up to this many parts of the card's size are seen whole."""
MOST_PIXELS = 100_000_000
"""Of a plane that the network must see whole."""


@dataclass(frozen=True)
class Opinion:
    """What a network says of one picture.

    Parameters
    ----------
    score : float
    kinds : tuple of str
        Names of the kinds of distortion it can tell apart, the first of which is "none"; empty
        where it cannot.
    confidence, strength : tuple of float
        Probability of each kind, and its level from 0 to 5 if it is there.
    """

    score: float
    kinds: tuple[str, ...] = ()
    confidence: tuple[float, ...] = ()
    strength: tuple[float, ...] = ()

    @property
    def likely(self) -> tuple[str, float, float]:
        """The likeliest kind, its probability and level; an empty name where it is unknown."""
        if not self.kinds:
            return "", float("nan"), float("nan")
        best = int(np.argmax(self.confidence))
        return self.kinds[best], self.confidence[best], 0.0 if best == 0 else self.strength[best]


def quality_card(name: str) -> ModelCard:
    """Return the card of a quality model.

    Raises
    ------
    UnknownModelError
        There is none of that name.
    CardError
        It is for another task.
    """
    card = Catalogue().get(name)
    if card.architecture != "topiq":
        raise CardError(f"{name} is for {card.task}, not for quality; choose a TOPIQ model")
    return card


class Scorer:
    """Score planes and windows with the model of some options.

    What the memory ladder changes for one picture stays in force for those that follow.

    Parameters
    ----------
    options : ScoreOptions
        With a model by name.
    context : Context
    compared : bool
        Whether there is a reference.

    Raises
    ------
    ImageError
        The model needs a reference and there is none.
    UnknownModelError, CardError, DeviceError
        The model, device or precision is not to be had.
    """

    def __init__(self, options: ScoreOptions, context: Context, compared: bool = False) -> None:
        self.card = quality_card(options.model)
        if self.compares and not compared:
            raise ImageError(
                f"{self.card.name} compares with a reference; choose one, or a model without"
            )
        self._options, self._context = options, context
        device = choose_device(context.device)
        self._precision = choose_precision(device, options.precision)
        if self._precision != "float32":
            change = self.card.metrics.get(f"score_change_{self._precision}")
            known = "by an unknown amount" if change is None else f"by up to {change:.2g}"
            context.warn(f"In {self._precision} scores change {known}; float32 is exact.")
        self._plan = Plan(8 if device != "cpu" else 1, self.card.input.tile, "full", device)
        # A precision is part of the result: it is never changed behind the user's back.
        self._ladder = Ladder(allow_half=False, min_tile=256, release=default_store().evict_all)
        self._steps: list[str] = []
        self._reference: tuple[Pixels, Any] | None = None
        context.progress(0, 0, f"loading {self.card.name}")

    @property
    def compares(self) -> bool:
        """Whether the model needs a reference."""
        return bool(self.card.options.get("use_ref", True))

    def score(self, pixels: Pixels, reference: Pixels | None = None) -> Opinion:
        """Score one picture.

        Pictures of more than 1.5 times the side that the card names are scored in parts, whose
        opinions are averaged by area, unless the network resizes what it sees.

        Parameters
        ----------
        pixels : ndarray of float32, shape (H, W, 3)
            In [0, 1].
        reference : ndarray of float32, shape (H, W, 3), optional
            For models that compare.

        Raises
        ------
        ImageError
            The reference is of another size, or the picture is too large to be seen whole.
        WeightsError, MemoryExhausted, Cancelled
        """
        self._check(pixels, reference)

        def attempt(plan: Plan) -> Opinion:
            parts = self._parts((pixels.shape[0], pixels.shape[1]), plan)
            with self._network(plan) as network, torch.inference_mode():
                if len(parts) == 1:
                    return self._examine(
                        network, plan, [pixels], self._kept(network, plan, reference)
                    )[0]
                found = []
                for part in parts:
                    self._context.check()
                    other = None if reference is None else [_cut(reference, part)]
                    found += self._examine(network, plan, [_cut(pixels, part)], other)
            return _mean(found, [part.height * part.width for part in parts])

        return self._run(attempt)

    def score_windows(
        self,
        pixels: Pixels,
        windows: Sequence[Tile],
        reference: Pixels | None = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[float]:
        """Score windows of one size of a picture; see :meth:`score`.

        Parameters
        ----------
        done : callable
            Called with the number of windows that are finished.
        """
        self._check(pixels, reference)

        def attempt(plan: Plan) -> list[float]:
            found: list[float] = []
            with self._network(plan) as network, torch.inference_mode():
                for start in range(0, len(windows), plan.batch):
                    self._context.check()
                    some = windows[start : start + plan.batch]
                    other = None if reference is None else [_cut(reference, one) for one in some]
                    opinions = self._examine(
                        network, plan, [_cut(pixels, one) for one in some], other
                    )
                    found += [one.score for one in opinions]
                    done(len(found))
            return found

        return self._run(attempt)

    def embedding(self, pixels: Pixels, reference: Pixels | None = None) -> NDArray[np.float32]:
        """Return what the last linear layer of the score sees, D numbers; see :meth:`score`.

        Parts are averaged, which for a linear layer is the same as averaging their scores.
        """
        self._check(pixels, reference)

        def attempt(plan: Plan) -> NDArray[np.float32]:
            parts = self._parts((pixels.shape[0], pixels.shape[1]), plan)
            found = []
            with self._network(plan, "plain") as network, torch.inference_mode():
                for part in parts:
                    self._context.check()
                    other = reference if self.compares else None
                    beside = None if other is None else _tensor([_cut(other, part)], plan.device)
                    own = _tensor([_cut(pixels, part)], plan.device)
                    found.append(network.embedding(own, beside)[0].float().cpu().numpy())  # type: ignore[operator]
            areas = [part.height * part.width for part in parts]
            mean: NDArray[np.float32] = np.average(found, axis=0, weights=areas).astype(np.float32)
            return mean

        return self._run(attempt)

    def attention(self, pixels: Pixels, reference: Pixels | None = None) -> list[Pixels]:
        """Return where the network looks at each scale, from fine to coarse.

        Returns
        -------
        list of ndarray of float32, shape (h, w)
            1 is the mean of a map; each covers the whole picture.
        """
        self._check(pixels, reference)

        def attempt(plan: Plan) -> list[Pixels]:
            other = None if reference is None else _tensor([reference], plan.device)
            with self._network(plan, "plain") as network, torch.inference_mode():
                maps = network.attention(_tensor([pixels], plan.device), other)  # type: ignore[operator]
            return [(one[0] * one[0].numel()).float().cpu().numpy() for one in maps]

        return self._run(attempt)

    def provenance(self) -> dict[str, Any]:
        """Return what made the scores."""
        plan = self._plan
        return {
            "model": self.card.name,
            "weights_sha256": completed(self.card).weights.sha256,
            "options": asdict(self._options),
            "version": __version__,
            "device": plan.device,
            "precision": self._precision,
            "part": plan.tile,
            "ladder": list(self._steps),
            "threads": torch.get_num_threads(),
        }

    def _check(self, pixels: Pixels, reference: Pixels | None) -> None:
        if reference is not None and reference.shape != pixels.shape:
            sizes = " and ".join(f"{one.shape[1]} x {one.shape[0]}" for one in (pixels, reference))
            raise ImageError(
                f"the image and its reference have {sizes} pixels; choose a reference of the same "
                "size, or have it resized (fit_reference)"
            )
        if self._resizes and pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
            raise ImageError(
                f"{self.card.name} must see an image whole, which is possible up to "
                f"{MOST_PIXELS / 1e6:.0f} million pixels; choose a part of it"
            )

    @property
    def _resizes(self) -> bool:
        options = self.card.options
        swin = str(options.get("semantic_model_name", "")).startswith("swin")
        return swin or bool(options.get("test_img_size"))

    def _parts(self, shape: tuple[int, int], plan: Plan) -> list[Tile]:
        assert plan.tile is not None
        if self._resizes or max(shape) <= WHOLE * plan.tile:
            return [Tile(0, 0, *shape)]
        return plan_tiles(shape, plan.tile, 0)

    def _network(self, plan: Plan, form: str = "fast") -> AbstractContextManager[nn.Module]:
        return default_store().lease(self.card, plan.device, self._precision, form)

    def _run(self, attempt: Callable[[Plan], T]) -> T:
        result, self._plan, steps = self._ladder.run(attempt, self._plan, self._context)
        self._steps += steps
        return result

    def _kept(self, network: nn.Module, plan: Plan, reference: Pixels | None) -> Any:
        """Return what the network makes of a reference, made once for as long as it is the same."""
        if reference is None or not self.compares:
            return None
        if self._reference is None or self._reference[0] is not reference:
            with self._autocast(plan):
                made = network.reference(_tensor([reference], plan.device))  # type: ignore[operator]
            self._reference = (reference, made)
        return self._reference[1]

    def _autocast(self, plan: Plan) -> torch.autocast:
        dtype = getattr(torch, self._precision)
        kind = plan.device.partition(":")[0]
        return torch.autocast(kind, dtype, enabled=dtype != torch.float32)

    def _examine(
        self, network: nn.Module, plan: Plan, pixels: list[Pixels], reference: Any
    ) -> list[Opinion]:
        if isinstance(reference, list):
            reference = _tensor(reference, plan.device) if self.compares else None
        with self._autocast(plan):
            seen = network.examine(_tensor(pixels, plan.device), reference)  # type: ignore[operator]
        scores = seen.score[:, 0].float().cpu().numpy()
        if not seen.logits.shape[1]:
            return [Opinion(float(score)) for score in scores]
        confidence = seen.logits.float().softmax(dim=1).cpu().numpy()
        strength = 5 * seen.strengths.float().clamp(0, 1).cpu().numpy()
        return [
            Opinion(
                float(score),
                self.card.classes,
                tuple(map(float, confidence[i])),
                tuple(map(float, strength[i])),
            )
            for i, score in enumerate(scores)
        ]


def fitted(reference: Pixels, shape: tuple[int, int]) -> Pixels:
    """Bring a reference to a size, smoothing where it shrinks."""
    if reference.shape[:2] == shape:
        return reference
    found: Pixels = resize(reference, (*shape, 3), order=1, anti_aliasing=True).astype(np.float32)
    return found


def _cut(pixels: Pixels, part: Tile) -> Pixels:
    return pixels[part.y : part.y + part.height, part.x : part.x + part.width]


def _tensor(pixels: list[Pixels], device: str) -> Tensor:
    stacked = np.stack([one.transpose(2, 0, 1) for one in pixels])
    return torch.from_numpy(np.ascontiguousarray(stacked)).to(device)


def _mean(opinions: list[Opinion], weights: list[int]) -> Opinion:
    def mean(rows: list[Any]) -> NDArray[np.float64]:
        return np.average(np.array(rows, float), axis=0, weights=weights)

    return Opinion(
        float(mean([one.score for one in opinions])),
        opinions[0].kinds,
        tuple(map(float, mean([one.confidence for one in opinions]))),
        tuple(map(float, mean([one.strength for one in opinions]))),
    )
