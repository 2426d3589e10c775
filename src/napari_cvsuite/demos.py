"""The instruments at work on real images, in the window: for demonstrations and for pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cvsuite.app import (
    add_image,
    need_binding,
    open_window,
    take_screenshot,
    wait_until,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_cvsuite.images import Image

__all__ = ["neurons", "paths", "quality", "segment"]


@contextmanager
def _stage(tab: str, screenshot: Path | None) -> Iterator[tuple[Viewer, Any]]:
    """Give a window and the dock `tab` in front; then leave it open, or take a picture of it."""
    need_binding()
    import napari

    viewer, _ = open_window()
    dock = viewer.window.dock_widgets[tab]
    dock.parentWidget().raise_()
    yield viewer, dock
    if screenshot is None:
        napari.run()
        return
    take_screenshot(viewer, screenshot)
    dock.close()
    viewer.close()


def _finish(dock: Any, timeout: float) -> str:
    """Run a dock until it shows its result; return what it says, or raise what went wrong."""
    errors: list[Exception] = []
    dock.runner.failed.connect(errors.append)
    dock.run()
    wait_until(lambda: dock.idle, timeout)
    if errors:
        raise errors[0]
    return str(dock.run_bar.message.text())


def _add(viewer: Viewer, image: Image) -> None:
    viewer.add_image(image.data, name=image.name, rgb=True)


def segment(
    name: str = "nuclei",
    screenshot: Path | None = None,
    timeout: float = 300.0,
    teach: bool = False,
) -> str:
    """Segment a real image.

    Parameters
    ----------
    name : str
        One of :data:`napari_cvsuite.segmentation.demo.DEMOS`.
    screenshot : Path, optional
        PNG file to write; then the window closes. Without one it stays open.
    timeout : float
        Seconds for the job.
    teach : bool
        List the labels as what the model can learn from, once they are put right.

    Returns
    -------
    str
        What the dock said at the end.

    Raises
    ------
    BindingError
        No Qt binding is installed.
    TimeoutError, ValueError, RuntimeError
        The job failed; the message says why.
    """
    from napari_cvsuite.segmentation.demo import DEMOS

    chosen = DEMOS[name]
    with _stage("Segment", screenshot) as (viewer, dock):
        add_image(viewer, chosen.path)
        dock.model.choose(chosen.options.model)
        dock.form.set_values(asdict(chosen.options))
        dock.show_as.setCurrentText(chosen.show)
        said = _finish(dock, timeout)
        if teach:
            dock.teach.expand(animate=False)
            dock.retrain.add()
        return said


def quality(mode: str = "Score", screenshot: Path | None = None, timeout: float = 300.0) -> str:
    """Judge a real image; `screenshot`, the result and errors are those of :func:`segment`.

    Parameters
    ----------
    mode : {"Score", "Map"}
        A focus series and its curve, or a half blurred image and where it is good.
    screenshot : Path, optional
    timeout : float
    """
    from napari_cvsuite.quality.demo import focus_series, half_blurred

    with _stage("Quality", screenshot) as (viewer, dock):
        _add(viewer, half_blurred() if mode == "Map" else focus_series())
        dock.inputs.set_mode(mode)
        if mode == "Map":
            dock.inputs.form.set_values({"window": 96, "step": 32})
        said = _finish(dock, timeout)
        if mode == "Score":
            # The sharpest slice, with its verdict.
            scores = dock.results.scores
            dock.results.slice_chosen.emit(int(scores.values().argmax()))
        return said


def neurons(what: str = "saliency", screenshot: Path | None = None, timeout: float = 300.0) -> str:
    """Look into classifiers; `screenshot`, the result and errors are those of :func:`segment`.

    Parameters
    ----------
    what : {"saliency", "attack", "dissection"}
        What a standard and a robust network see in a cat, what misleads the standard one, or which
        of its channels answer to the nuclei of tissue.
    screenshot : Path, optional
    timeout : float
    """
    from napari_cvsuite.neurons.demo import cat, labelled_tissue
    from napari_cvsuite.widgets.neurons_actions import ATTACK, DISSECT, SALIENCY

    with _stage("Neurons", screenshot) as (viewer, dock):
        choice = dock.inputs.choice
        if what == "dissection":
            image, labels = labelled_tissue()
            _add(viewer, image)
            choice.set_action(DISSECT)
            choice.concepts.tick(viewer.add_labels(labels.data, name=labels.name, opacity=0.4))
            wait_until(lambda: dock.settled, timeout)
            choice.layer.choose("layer2")
        else:
            _add(viewer, cat())
            choice.set_action(ATTACK if what == "attack" else SALIENCY)
        # The prediction fills the lists of layers and classes.
        wait_until(lambda: dock.settled, timeout)
        said = _finish(dock, timeout)
        wait_until(lambda: dock.settled, timeout)
        if what == "saliency":
            # Side by side, where they lie one upon the other.
            for layer in list(viewer.layers):
                layer.visible = True
                if type(layer).__name__ == "Shapes":
                    viewer.layers.remove(layer)
            viewer.canvas.grid.shape, viewer.canvas.grid.enabled = (2, 2), True
        return said


def paths(
    what: str = "picture",
    screenshot: Path | None = None,
    timeout: float = 300.0,
    images: Path | None = None,
    model: str = "",
) -> str:
    """Take a vision transformer apart; the result and errors are those of :func:`segment`.

    Parameters
    ----------
    what : {"picture", "map", "pruning"}
        The paths of the prediction for a cat, one of them switched off; where its most important
        attention path looks; or what leaving paths out does to the accuracy on labelled images.
    screenshot : Path, optional
    timeout : float
        Seconds for each of its jobs.
    images : Path, optional
        Folder with a folder of images for each class, which pruning needs.
    model : str
        Default that of the package.
    """
    from napari_cvsuite.neurons.demo import cat
    from napari_cvsuite.widgets.paths_tabs import COMBINE

    if what == "pruning" and images is None:
        raise ValueError("pruning needs a folder with a folder of images for each class")
    with _stage("Paths", screenshot) as (viewer, dock):
        _add(viewer, cat())
        if model:
            dock.inputs.model.choose(model)
        wait_until(lambda: dock.settled, timeout)
        _finish(dock, timeout)
        boxes = dock.pages.picture.boxes
        attention = max(boxes[1::2], key=lambda box: abs(box.value))
        if what == "map":
            attention.picked.emit()
        elif what == "pruning":
            dock.pages.choose(COMBINE)
            dock.pages.combine.choice.folder.set_path(images)
            dock.pages.combine.wanted.emit(None)
        else:
            attention.click()
        wait_until(lambda: dock.settled, timeout)
        said = str(dock.run_bar.message.text())
        if what == "pruning":
            _scroll_to(dock.pages.combine.plot)
        return said


def _scroll_to(widget: QWidget) -> None:
    """Bring a part of a dock into view."""
    from napari.qt import get_qapp
    from qtpy.QtWidgets import QScrollArea

    get_qapp().processEvents()
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QScrollArea):
        above = above.parentWidget()
    if above is not None:
        above.ensureWidgetVisible(widget)
