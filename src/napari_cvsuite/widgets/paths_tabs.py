"""The pages of the Paths dock under their tabs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QTabBar, QVBoxLayout, QWidget

from napari_cvsuite.widgets.paths_curves import CurvesPage
from napari_cvsuite.widgets.paths_effect import EffectPicker
from napari_cvsuite.widgets.paths_labelled_job import DEPTH, INFLUENCE, PRUNE, SCALE
from napari_cvsuite.widgets.paths_labelled_page import LabelledPage
from napari_cvsuite.widgets.paths_pages import MapsPage, NumbersPage, PicturePage
from napari_cvsuite.widgets.paths_plot import PathPlot
from napari_cvsuite.widgets.paths_save import png_of

if TYPE_CHECKING:
    from napari_cvsuite.paths.maps import PathMap

__all__ = ["COMBINE", "CURVES", "FOLDER", "MAPS", "NUMBERS", "PICTURE", "Pages"]

PICTURE, NUMBERS, MAPS, CURVES = "Picture", "Numbers", "Maps", "Curves"
COMBINE, FOLDER = "Combine", "Folder"
"""Names of the pages."""
_TIPS = {
    PICTURE: "The network as parallel paths, each with a switch.",
    NUMBERS: "What every path gives, under each intervention.",
    MAPS: "Where a path, a head or the network looks.",
    CURVES: "Depth, frequencies and lengths.",
    COMBINE: "Leave paths out for good, or weigh them, by labelled images.",
    FOLDER: "What the paths are worth over a folder of labelled images.",
}


class Pages(QWidget):
    """All pages; one is shown.

    Parameters
    ----------
    effect : EffectPicker
        Stands above the picture and the numbers, which both follow it.

    Signals
    -------
    changed ()
        Another page is shown.
    """

    changed = Signal()

    def __init__(self, effect: EffectPicker, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._effect = effect
        self.picture_page, self.numbers = PicturePage(), NumbersPage()
        self.maps, self.curves = MapsPage(), CurvesPage()
        self.combine = LabelledPage((PRUNE, SCALE))
        self.folder = LabelledPage((INFLUENCE, DEPTH))
        self.pages: dict[str, QWidget] = {
            PICTURE: self.picture_page,
            NUMBERS: self.numbers,
            MAPS: self.maps,
            CURVES: self.curves,
            COMBINE: self.combine,
            FOLDER: self.folder,
        }
        self.picture = self.picture_page.picture
        self.tabs = QTabBar()
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        # All tabs in sight: whoever has to scroll does not know that there are more.
        self.tabs.setUsesScrollButtons(False)
        for number, name in enumerate(self.pages):
            self.tabs.addTab(name)
            self.tabs.setTabToolTip(number, _TIPS[name])
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.tabs, effect, *self.pages.values()):
            column.addWidget(widget)
        column.addStretch(1)
        self.tabs.currentChanged.connect(lambda _: self._show())
        self._show()

    @property
    def labelled(self) -> tuple[LabelledPage, LabelledPage]:
        """The pages about labelled images."""
        return self.combine, self.folder

    @property
    def plots(self) -> tuple[PathPlot, ...]:
        """All plots."""
        pages = self.numbers, self.curves, self.combine, self.folder
        return tuple(page.plot for page in pages)

    @property
    def name(self) -> str:
        """Name of the page that is shown."""
        return self.tabs.tabText(self.tabs.currentIndex()).replace("&", "")

    def choose(self, name: str) -> None:
        """Show a page; an unknown one changes nothing."""
        if name in self.pages:
            self.tabs.setCurrentIndex(list(self.pages).index(name))

    def _show(self) -> None:
        for name, page in self.pages.items():
            page.setVisible(name == self.name)
        self._effect.setVisible(self.name in (PICTURE, NUMBERS))
        self._effect.show_switches(self.name == PICTURE)
        self.changed.emit()

    def off_names(self) -> str:
        """Return the paths that are switched off, with commas between."""
        return ",".join(self.picture.boxes[number].name for number in sorted(self.picture.off))

    def changes(self) -> tuple[str, str]:
        """Return the paths that are switched off, and weights of others, as jobs write them."""
        found = self.picture.weights.items()
        weighed = (f"{self.picture.boxes[n].name}={one:g}" for n, one in found if one)
        return self.off_names(), ",".join(weighed)

    def show_map(self, found: PathMap) -> None:
        """Say what a map is of, where one can be asked for."""
        self.maps.show_map(found)
        self.picture_page.say(self.maps.words.text())

    def figure(self, back: str) -> bytes:
        """Return the picture or plot of the page that is shown as a PNG file.

        Raises
        ------
        ValueError
            There is none.
        """
        page = self.pages[self.name]
        if isinstance(page, PicturePage) and page.picture.boxes and page.picture.isVisible():
            return png_of(page.picture, back)
        plot = getattr(page, "plot", None)
        if isinstance(plot, PathPlot) and plot.isVisibleTo(page):
            return plot.png()
        raise ValueError("There is no picture on this page yet.")

    def set_colours(self, text: str, back: str) -> None:
        """Take the colours of the window's theme."""
        self.picture.set_colours(text, back)
        for plot in self.plots:
            plot.set_colours(text, back)

    def set_busy(self, busy: bool, model: str) -> None:
        """Let buttons wait while something runs."""
        for button in (self.maps.button, self.curves.button, self.picture_page.stack_button):
            button.setEnabled(not busy)
        for page in self.labelled:
            page.choice.check(model, self.off_names(), busy)
            page.export_button.setEnabled(not busy)

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        return {
            "page": self.name,
            "combine": self.combine.choice.state(),
            "folder": self.folder.choice.state(),
            "frequency": str(self.curves.folder.path or ""),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Choose what was kept; what is unknown is passed over."""
        self.combine.choice.restore(state.get("combine"))
        self.folder.choice.restore(state.get("folder"))
        path = str(state.get("frequency", ""))
        if path and Path(path).is_dir():
            self.curves.folder.set_path(Path(path))
        self.choose(str(state.get("page", "")))

    def close_down(self) -> None:
        """Cancel saves that are going on, and forget who listens."""
        for page in self.labelled:
            page.close_down()
        self.numbers.table.close_down()
        self.curves.table.close_down()
