"""Model cards: what is known of a model besides its weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

__all__ = ["CardError", "InputSpec", "ModelCard", "WeightFile"]

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{8,64}")


class CardError(ValueError):
    """A model card is malformed; the message names the field."""


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
    normalisation : {"minmax", "unit"}
        How intensities are scaled: to [-1, 1] by their range, or to [0, 1].
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
        _one_of("input.normalisation", self.normalisation, ("minmax", "unit"))
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
        Hexadecimal digest of the file, or its first 8 digits or more where no more is published;
        empty where none is: then it is not fetched, and an import fills it in.
    size : int
        Bytes; 0 where it is not known.
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
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256 or "0" * 8):
            raise CardError(
                "weights.sha256 must be 64 lowercase hex digits, or the first 8 of them or more, "
                f"got {self.sha256!r}"
            )
        _whole("weights.size", self.size, 0)
        object.__setattr__(self, "sources", _strings("weights.sources", self.sources))
        for url in self.sources:
            if not url.startswith(("https://", "http://")):
                raise CardError(f"weights.sources must be http(s) URLs, got {url!r}")
        if not isinstance(self.license_must_be_accepted, bool):
            raise CardError("weights.license_must_be_accepted must be true or false")

    def has_hash(self, digest: str) -> bool:
        """Return whether a file with this full `digest` is the one."""
        return bool(self.sha256) and digest.startswith(self.sha256)

    def is_same(self, other: WeightFile) -> bool:
        """Return whether the hashes agree as far as both are known."""
        return self.has_hash(other.sha256) or other.has_hash(self.sha256)

    def shown_hash(self) -> str:
        """Return the hash for people: three dots stand for digits that are not known."""
        return self.sha256 if len(self.sha256) == 64 else f"{self.sha256}…"


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
