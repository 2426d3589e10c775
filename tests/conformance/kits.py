"""Loads the standalone rule of a conformance kit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

KITS = Path(__file__).parent


def load_rule(kit: str) -> ModuleType:
    """Import ``<kit>/rule.py`` under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"{kit}_rule", KITS / kit / "rule.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
