"""What the tests of docks share."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from qtpy.QtWidgets import QInputDialog

Wait = Callable[[Callable[[], bool]], None]
AnyDock = TypeVar("AnyDock", bound=Any)


class Held:
    """Holds a job until released.

    Parameters
    ----------
    deaf : bool
        Cancelling does not reach it either. What waits for such a job anyhow, it lets go after
        a minute, and has left by then.
    """

    def __init__(self, deaf: bool = False) -> None:
        self._deaf = deaf
        self.entered, self.release, self.left = (threading.Event() for _ in range(3))

    def hold(self, check: Callable[[], None]) -> None:
        """Wait here; for the job, with what raises once it is cancelled."""
        self.entered.set()
        try:
            if self._deaf:
                self.release.wait(60)
                return
            while not self.release.wait(0.005):
                check()
        finally:
            self.left.set()


def opened(dock: AnyDock, model: str) -> Iterator[AnyDock]:
    """Yield a dock with a model on the CPU, and close it."""
    # The Segment dock holds its inputs itself.
    inputs = getattr(dock, "inputs", dock)
    inputs.model.choose(model)
    inputs.device.choose("cpu")
    yield dock
    dock.close()


def run(dock: Any, wait_for: Wait) -> str:
    """Run what is chosen, and return what the dock says at the end."""
    dock.run()
    wait_for(lambda: dock.idle)
    return str(dock.run_bar.message.text())


def problem(dock: Any) -> str:
    """Return why the dock cannot run."""
    assert not dock.run_bar.button.isEnabled()
    return str(dock.run_bar.message.text())


def choose_and_run(dock: Any, wait_for: Wait, action: str, **values: Any) -> str:
    """Run an action of the Neurons dock with these options."""
    dock.inputs.choice.set_action(action)
    dock.inputs.choice.form.set_values(values)
    return run(dock, wait_for)


def rows_of_run(dock: Any, wait_for: Wait, action: str, **values: Any) -> list[dict[str, Any]]:
    """Run an action of the Neurons dock that must succeed, and return its table."""
    said = choose_and_run(dock, wait_for, action, **values)
    assert said.startswith("Done"), said
    rows: list[dict[str, Any]] = dock.shower.panels[action].rows
    return rows


def press(viewer: Any, key: str) -> None:
    """Press a shortcut of the viewer."""
    {str(one): action for one, action in viewer.keymap.items()}[shown(key)](viewer)


def shown(key: str) -> str:
    """Return a shortcut as napari writes it."""
    return key.replace("Control", "Ctrl").replace("-", "+")


def closed(dock: Any) -> Callable[[], bool]:
    """Close a dock; what is returned says whether it is freed, once the caller has let go."""
    dock.close()
    gone = weakref.ref(dock)
    dock.deleteLater()

    def freed() -> bool:
        gc.collect()
        return gone() is None

    return freed


def answered(monkeypatch: pytest.MonkeyPatch, name: str, yes: bool = True) -> list[str]:
    """Have the dialogue that asks for a name answered; return the list of its questions."""
    asked: list[str] = []

    def answer(_parent: object, _title: str, question: str, text: str) -> tuple[str, bool]:
        asked.append(f"{question} {text}")
        return name, yes

    monkeypatch.setattr(QInputDialog, "getText", answer)
    return asked
