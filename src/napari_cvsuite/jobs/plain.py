"""Results as plain data, for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

__all__ = ["plain"]

LARGEST = 4096
"""Elements of an array that are kept."""


def plain(result: Any) -> Any:
    """Return a result as plain data for JSON; large arrays are left out, NaN becomes None."""
    if is_dataclass(result) and not isinstance(result, type):
        found = {field.name: getattr(result, field.name) for field in fields(result)}
        return {
            key: plain(value)
            for key, value in found.items()
            if not (isinstance(value, np.ndarray) and value.size > LARGEST)
        }
    if isinstance(result, Mapping):
        return {str(key): plain(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [plain(value) for value in result]
    if isinstance(result, (np.ndarray, np.generic)):
        return plain(result.tolist())
    if isinstance(result, PurePath):
        return str(result)
    if isinstance(result, float) and not math.isfinite(result):
        return None
    return result
