"""Options of the report on the paths of a transformer. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option
from napari_cvsuite.paths.labelled_options import HeldOutOptions

__all__ = ["ReportOptions"]


@dataclass(frozen=True)
class ReportOptions(HeldOutOptions):
    """Options of the report on the paths of a transformer."""

    checked: int = Option(
        64,
        label="Checked",
        help="Images whose sums are compared at most, down to heads and source tokens.",
        minimum=1,
        maximum=100_000,
        advanced=True,
    )
