"""Model cards, and the catalogue of those shipped with the package or added by the user."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs

__all__ = [
    "CardError",
    "Catalogue",
    "InputSpec",
    "ModelCard",
    "UnknownModelError",
    "WeightFile",
    "builtin_folder",
    "user_folder",
]

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CardError(ValueError):
    """A model card is malformed; the message names the field."""


class UnknownModelError(LookupError):
    """No model of that name; the message suggests near ones."""


@dataclass(frozen=True)
class InputSpec:
    """What the network expects to be fed.

    Parameters
    ----------
    mode : {"native", "resize"}
        Tiles at the image's own resolution, or the whole image, its longest side brought to
        ``tile`` pixels, as the published training does.
    tile : int
        Side of the tile in pixels of the image.
    scale : float
        Pixels that the network sees for each pixel of the image.
    colour : {"rgb", "ycrcb"}
        Colour space of the input; ``"ycrcb"`` goes with mode ``"resize"`` alone.
    channels : int
        Number of input channels.
    normalisation : {"minmax"}
        How intensities are scaled.
    """

    mode: str = "native"
    tile: int = 512
    colour: str = "rgb"
    channels: int = 3
    normalisation: str = "minmax"
    scale: float = 1.0

    def __post_init__(self) -> None:
        _one_of("input.mode", self.mode, ("native", "resize"))
        _one_of("input.colour", self.colour, ("rgb", "ycrcb"))
        if self.colour != "rgb" and self.mode != "resize":
            raise CardError(f"input.colour {self.colour!r} needs input.mode 'resize'")
        if self.scale != 1 and self.mode == "resize":
            raise CardError("input.scale must be 1 where input.mode is 'resize'")
        _one_of("input.normalisation", self.normalisation, ("minmax",))
        _whole("input.tile", self.tile, 1)
        _whole("input.channels", self.channels, 1)
        if isinstance(self.scale, bool) or not isinstance(self.scale, (int, float)):
            raise CardError(f"input.scale must be a number, got {self.scale!r}")
        if not 0.01 <= self.scale <= 100:
            raise CardError(f"input.scale must lie between 0.01 and 100, got {self.scale!r}")


@dataclass(frozen=True)
class WeightFile:
    """Where a model's weights are and how to recognise them.

    Parameters
    ----------
    filename : str
        Bare file name, the same in every source.
    sha256 : str
        Hexadecimal digest of the file.
    size : int
        Bytes.
    sources : tuple of str
        Origin URLs, tried in order.
    license_must_be_accepted : bool
        Whether the user has to accept the licence before a download.
    """

    filename: str
    sha256: str
    size: int
    sources: tuple[str, ...] = ()
    license_must_be_accepted: bool = False

    def __post_init__(self) -> None:
        _safe_name("weights.filename", self.filename)
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise CardError(f"weights.sha256 must be 64 lowercase hex digits, got {self.sha256!r}")
        _whole("weights.size", self.size, 0)
        object.__setattr__(self, "sources", _strings("weights.sources", self.sources))
        for url in self.sources:
            if not url.startswith(("https://", "http://")):
                raise CardError(f"weights.sources must be http(s) URLs, got {url!r}")
        if not isinstance(self.license_must_be_accepted, bool):
            raise CardError("weights.license_must_be_accepted must be true or false")


@dataclass(frozen=True)
class ModelCard:
    """Everything known of a model besides its weights.

    Parameters
    ----------
    name : str
        Identifier, usable as a file name.
    task, architecture : str
        What it does, and which registered network it is.
    input : InputSpec
    classes : tuple of str
        Names of the output planes.
    license : str
        SPDX identifier, or words.
    weights : WeightFile
    options : mapping
        Architecture options.
    citation, description, data, url : str
        Provenance, for people.
    metrics : mapping of str to float
        Measured quality.
    training : mapping
        Options of the training run, for people.
    threshold : float
        Raw probability of the foreground, of two classes, from which a pixel is foreground.
        Probabilities are shifted (in logits) so that it becomes one half for every door.
    """

    name: str
    task: str
    architecture: str
    input: InputSpec
    classes: tuple[str, ...]
    license: str
    weights: WeightFile
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    citation: str = ""
    description: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    data: str = ""
    url: str = ""
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _safe_name("name", self.name)
        _share("threshold", self.threshold)
        if self.threshold != 0.5 and len(self.classes) > 2:
            raise CardError("threshold is for two classes; leave it out")
        for key in ("task", "architecture", "license", "citation", "description", "data", "url"):
            if not isinstance(getattr(self, key), str):
                raise CardError(f"{key} must be text, got {getattr(self, key)!r}")
        object.__setattr__(self, "classes", _strings("classes", self.classes))
        if not self.classes:
            raise CardError("classes must name at least one class")
        for key in ("options", "metrics", "training"):
            value = getattr(self, key)
            if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
                raise CardError(f"{key} must be a table with text keys, got {value!r}")
            object.__setattr__(self, key, dict(value))
        for key, number in self.metrics.items():
            plain = isinstance(number, (int, float)) and not isinstance(number, bool)
            if not plain or not math.isfinite(number):
                raise CardError(f"metrics.{key} must be a finite number, got {number!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the card as JSON text, keys in a fixed order."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, data: Any) -> ModelCard:
        """Rebuild from :meth:`to_dict`; raises :class:`CardError`."""
        values = _checked(cls, data, "card")
        values["input"] = InputSpec(**_checked(InputSpec, values["input"], "input"))
        values["weights"] = WeightFile(**_checked(WeightFile, values["weights"], "weights"))
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Rebuild from :meth:`to_json`; raises :class:`CardError`."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CardError(f"The model card is not valid JSON: {error}") from error
        return cls.from_dict(data)


def user_folder() -> Path:
    """Return the folder of the user's cards and weights; it may not exist yet.

    ``$NAPARI_CVSUITE_HOME/models`` where that variable is set.
    """
    home = os.environ.get("NAPARI_CVSUITE_HOME")
    base = Path(home) if home else Path(platformdirs.user_data_dir("napari-cvsuite", False))
    return base / "models"


def builtin_folder() -> Path:
    """Return the folder of the models shipped with the package."""
    return Path(str(resources.files("napari_cvsuite.models").joinpath("builtin")))


class Catalogue:
    """The models of the package and of the user folder.

    Cards that cannot be read are left out, and named in :attr:`problems`: one bad file must not
    hide the other models. A built-in model wins over a user's of the same name, so that a
    name in a paper or a macro keeps its meaning.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._cards: dict[str, ModelCard] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the folders again."""
        cards: dict[str, ModelCard] = {}
        problems: list[str] = []
        for folder in (builtin_folder(), user_folder()):
            for path in sorted(folder.glob("*.json")):
                try:
                    card = ModelCard.from_json(path.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    problems.append(f"{path}: {error}")
                    continue
                if cards.setdefault(card.name, card) != card:
                    problems.append(f"{path}: the name {card.name!r} is taken by another model")
        self._cards, self.problems = cards, problems

    def __iter__(self) -> Iterator[ModelCard]:
        return iter(self._cards.values())

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, name: object) -> bool:
        return name in self._cards

    def names(self) -> list[str]:
        """Return the names, built-in models first."""
        return list(self._cards)

    def get(self, name: str) -> ModelCard:
        """Return the card called `name`; raises :class:`UnknownModelError`."""
        if name in self._cards:
            return self._cards[name]
        near = difflib.get_close_matches(name, self._cards, n=3, cutoff=0.5)
        if near:
            hint = "Did you mean " + " or ".join(repr(n) for n in near) + "?"
        else:
            hint = "Known models: " + (", ".join(sorted(self._cards)) or "none") + "."
        raise UnknownModelError(f"There is no model called {name!r}. {hint}")


def _checked(kind: type[Any], data: Any, where: str) -> dict[str, Any]:
    """Return `data` as keyword arguments of a dataclass; name unknown and missing fields."""
    if not isinstance(data, Mapping):
        raise CardError(f"The {where} must be a table of fields, got {type(data).__name__}")
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(str(k) for k in data if k not in known)
    if unknown:
        raise CardError(f"The {where} has unknown fields: {', '.join(unknown)}; remove them")
    missing = [
        name
        for name, f in known.items()
        if name not in data and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise CardError(f"The {where} lacks fields: {', '.join(missing)}; add them")
    return dict(data)


def _one_of(where: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise CardError(f"{where} must be one of {', '.join(allowed)}; got {value!r}")


def _whole(where: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CardError(f"{where} must be a whole number of at least {least}, got {value!r}")


def _share(where: str, value: object) -> None:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not 0.0 < value < 1.0:  # type: ignore[operator]
        raise CardError(f"{where} must be a number between 0 and 1, got {value!r}")


def _safe_name(where: str, value: object) -> None:
    """Refuse what could leave its folder, as names of cards from elsewhere become paths."""
    if not isinstance(value, str) or not _SAFE_NAME.fullmatch(value):
        raise CardError(
            f"{where} must be letters, digits and . _ + - without folders, got {value!r}"
        )


def _strings(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise CardError(f"{where} must be a list of text, got {value!r}")
    return tuple(value)
