"""A job as data: what to do, with which options, on which inputs; kept in YAML or JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, cast

import yaml

from napari_cvsuite.jobs import registry

__all__ = ["VERSION", "InputReference", "Request", "RequestError"]

VERSION = 1
_KINDS = ("file", "layer", "array", "text")


class RequestError(ValueError):
    """A request cannot be read; the message says what to do."""


@dataclass(frozen=True)
class InputReference:
    """Where an input is found, and what it is for.

    Parameters
    ----------
    kind : {"file", "layer", "array", "text"}
        Whether `value` is a path, the name of a layer, a name given by the caller, or the input
        itself.
    value : str
    role : str
        What the job uses it for, where it takes several; such as ``"masks"``.
    """

    kind: Literal["file", "layer", "array", "text"]
    value: str
    role: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise RequestError(f"input kind must be one of {', '.join(_KINDS)}; got {self.kind!r}")
        for name in ("value", "role"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise RequestError(f"input {name} must be a text; put it in quotes: {text!r}")


@dataclass(frozen=True)
class Request:
    """One job to run.

    Parameters
    ----------
    job : str
        Name such as ``"segmentation.predict"``.
    options : object
        The job's frozen options dataclass.
    inputs : tuple of InputReference
        What it works on.
    version : int
        Version of the written form.
    """

    job: str
    options: Any
    inputs: tuple[InputReference, ...] = ()
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, texts and numbers."""
        fields = dataclasses.fields(self.options)
        return {
            "version": self.version,
            "job": self.job,
            "options": {f.name: _swap(getattr(self.options, f.name), tuple, list) for f in fields},
            "inputs": [_reference(one) for one in self.inputs],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Request:
        """Read what :meth:`to_dict` wrote; raises :class:`RequestError`."""
        if not isinstance(data, dict):
            raise RequestError("a request must be a mapping with version, job, options and inputs")
        unknown = [str(key) for key in data if key not in ("version", "job", "options", "inputs")]
        if unknown:
            raise RequestError(f"unknown entry {', '.join(unknown)}; remove it")
        version = data.get("version")
        if type(version) is not int or version != VERSION:
            raise RequestError(f"version must be {VERSION}, got {version!r}; write 'version: 1'")
        try:
            options_class = registry.find(cast(str, data.get("job"))).load_options()
        except registry.UnknownJob as error:
            raise RequestError(str(error)) from error
        options = _options(options_class, data.get("options"))
        return cls(data["job"], options, _inputs(data.get("inputs")), version)

    def to_yaml(self) -> str:
        """Return the request as YAML."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    @classmethod
    def from_yaml(cls, text: str) -> Request:
        """Read YAML; raises :class:`RequestError`."""
        try:
            data = yaml.safe_load(text)
        # PyYAML lets ValueError (impossible dates) and RecursionError through.
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RequestError(f"the YAML cannot be read; correct it: {error}") from error
        return cls.from_dict(data)

    def to_json(self) -> str:
        """Return the request as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read JSON; raises :class:`RequestError`."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the JSON cannot be read; correct it: {error}") from error
        return cls.from_dict(data)


def _swap(value: Any, old: type[Any], new: type[Any]) -> Any:
    if isinstance(value, old):
        return new(_swap(one, old, new) for one in value)
    return value


def _reference(one: InputReference) -> dict[str, str]:
    written = {"kind": one.kind, "value": one.value}
    return {**written, "role": one.role} if one.role else written


def _options(options_class: type[Any], data: Any) -> Any:
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise RequestError("options must be a mapping of names to values")
    known = [field.name for field in dataclasses.fields(options_class)]
    for name in data:
        if name not in known:
            raise RequestError(f"unknown option {name!r}; use one of {', '.join(known)}")
    try:
        return options_class(**{name: _swap(v, list, tuple) for name, v in data.items()})
    except (ValueError, TypeError) as error:
        raise RequestError(f"an option cannot be used: {error}") from error


def _inputs(data: Any) -> tuple[InputReference, ...]:
    data = [] if data is None else data
    if not isinstance(data, list):
        raise RequestError("inputs must be a list of mappings with kind and value")
    for one in data:
        if not isinstance(one, dict) or set(one) - {"role"} != {"kind", "value"}:
            raise RequestError(f"an input needs kind and value, and may have a role; got {one!r}")
    return tuple(InputReference(**one) for one in data)
