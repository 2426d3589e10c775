"""A real viewer without a screen: Qt draws off screen and OpenGL is not asked anything."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

collect_ignore_glob: list[str] = []
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
for _binding in ("PyQt6", "PyQt5"):
    try:
        __import__(_binding)
    except ImportError:
        continue
    os.environ.setdefault("QT_API", _binding.lower())
    break
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer the two questions that napari asks of OpenGL."""
    from napari._vispy import canvas
    from napari._vispy.layers import base, image, labels

    if os.environ["QT_API"] == "pyqt5":
        # napari asks for the system's theme, which only Qt 6 knows, and warns.
        message = "System theme detection requires a Qt6 backend"
        warnings.filterwarnings("ignore", message=message)
    for module in (canvas, base, image, labels):
        monkeypatch.setattr(module, "get_max_texture_sizes", lambda: (16384, 2048))
    monkeypatch.setattr(image, "get_gl_extensions", lambda: "texture_float")


@pytest.fixture
def viewer(make_napari_viewer: Callable[[], Any]) -> Any:
    """Return a napari viewer that is closed after the test."""
    return make_napari_viewer()


@pytest.fixture
def wait_for(qtbot: object) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Process events until a condition holds, for 100 seconds at most.

    Nothing here takes as long; but a process of its own that loads torch, on a machine that is
    busy, needs more than 20.
    """

    def wait(condition: Callable[[], bool]) -> None:
        qtbot.waitUntil(condition, timeout=100_000)  # type: ignore[attr-defined]

    yield wait
