"""What docks remember: preferences from napari's settings, and their state between sessions."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from napari_cvsuite.images import ImageError, replacing

__all__ = ["load_state", "preference", "save_state", "state_file"]

_log = logging.getLogger("napari_cvsuite")
# Without PyYAML's C part, reading and writing the state stops the window for 40 ms.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def preference(section: str, key: str, default: Any) -> Any:
    """Return a setting of Preferences > CV Suite, or `default` where napari does not know it."""
    from napari.settings import get_plugin_settings

    try:
        return getattr(getattr(get_plugin_settings("napari-cvsuite"), section), key)
    # Missing when the plugin is used from a checkout that is not installed, or is disabled.
    except (AttributeError, KeyError, ValueError):
        return default


def state_file() -> Path:
    """Return the file with the state of the docks.

    In ``$NAPARI_CVSUITE_HOME`` where that is set, else in the user's configuration folder: not
    with napari's own settings, which belong to one environment and vanish with it.
    """
    home = os.environ.get("NAPARI_CVSUITE_HOME")
    folder = Path(home) if home else Path(platformdirs.user_config_dir("napari-cvsuite", False))
    return folder / "docks.yaml"


def _read() -> dict[str, Any]:
    try:
        found = yaml.load(state_file().read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        _log.warning("the state of the docks cannot be read, defaults are used: %s", error)
        return {}
    return found if isinstance(found, dict) else {}


def load_state(dock: str) -> dict[str, Any]:
    """Return what the dock saved last; empty when there is nothing or it cannot be read."""
    state = _read().get(dock)
    return dict(state) if isinstance(state, Mapping) else {}


def save_state(dock: str, state: Mapping[str, Any]) -> None:
    """Keep the state of a dock; a disk that cannot be written costs the state, not the work."""
    path = state_file()
    everything = _read() | {dock: dict(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            text = yaml.dump(everything, Dumper=_Dumper, allow_unicode=True)
            partial.write_text(text, encoding="utf-8")
    except (OSError, ImageError) as error:
        _log.warning("the state of the docks cannot be saved in %s: %s", path, error)
