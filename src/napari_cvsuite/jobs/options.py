"""Options of a job: frozen dataclasses whose fields carry range, choices, unit and help.

One description serves every door: forms and command-line parameters are made from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass
from typing import Any

__all__ = [
    "BatchOption",
    "Option",
    "OptionError",
    "OptionSpec",
    "Options",
    "SeedOption",
    "option_specs",
]

_KEY = "napari_cvsuite"


class OptionError(ValueError):
    """An option has a value it cannot take; the message names the range or the choices."""


@dataclass(frozen=True)
class OptionSpec:
    """Description of one option, for people and for doors.

    Parameters
    ----------
    label, help : str
        Short name and one sentence.
    minimum, maximum : float, optional
        Inclusive range of a number.
    choices : tuple of str
        Allowed texts; empty means any.
    unit : str
        Unit shown beside the value.
    advanced : bool
        Whether a form shows it in the collapsed section.
    """

    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    advanced: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise :class:`OptionError` if `value` lies outside the range or the choices."""
        if self.choices and value not in self.choices:
            raise OptionError(f"{name} must be one of {', '.join(self.choices)}; got {value!r}")
        if value is None or isinstance(value, (str, bool)):
            return
        # Written so that NaN fails as well.
        below = self.minimum is not None and not value >= self.minimum
        above = self.maximum is not None and not value <= self.maximum
        if below or above:
            low = "any" if self.minimum is None else self.minimum
            high = "any" if self.maximum is None else self.maximum
            unit = f" {self.unit}" if self.unit else ""
            raise OptionError(f"{name} must lie between {low} and {high}{unit}; got {value!r}")


def Option(
    default: Any = MISSING,
    *,
    label: str,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    unit: str = "",
    advanced: bool = False,
) -> Any:
    """Declare a dataclass field with its :class:`OptionSpec`."""
    spec = OptionSpec(label, help, minimum, maximum, tuple(choices), unit, advanced)
    return dataclasses.field(default=default, metadata={_KEY: spec})


def SeedOption(help: str) -> Any:
    """Declare the seed of what `help` names."""
    return Option(0, label="Seed", help=help, minimum=0, maximum=2**31 - 1, advanced=True)


def BatchOption(default: int) -> Any:
    """Declare how many images are computed at a time."""
    help_ = "Images computed at a time."
    return Option(default, label="Batch", help=help_, minimum=1, maximum=4096, advanced=True)


@dataclass(frozen=True)
class Options:
    """Base of all options: checks types, ranges and choices when made."""

    def __post_init__(self) -> None:
        for name, (spec, default) in option_specs(type(self)).items():
            value = getattr(self, name)
            for kind in (bool, int, str):
                if type(default) is kind and type(value) is not kind:
                    raise OptionError(f"{name} must be of type {kind.__name__}; got {value!r}")
            if type(default) is float and not (
                isinstance(value, (int, float)) and not isinstance(value, bool)
            ):
                raise OptionError(f"{name} must be a number; got {value!r}")
            spec.check(name, value)


def option_specs(options: type[Any]) -> dict[str, tuple[OptionSpec, Any]]:
    """Return name -> (spec, default) of every declared option, in order."""
    return {
        field.name: (field.metadata[_KEY], field.default)
        for field in dataclasses.fields(options)
        if _KEY in field.metadata
    }
