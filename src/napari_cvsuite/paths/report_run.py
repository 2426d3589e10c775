"""A report on the paths of a transformer that is measured and written in one go."""

from __future__ import annotations

from pathlib import Path

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.paths.report import PathReport, ReportInputs, run
from napari_cvsuite.paths.report_html import write_report
from napari_cvsuite.paths.report_options import ReportOptions
from napari_cvsuite.reports.files import made_folder

__all__ = ["report_into"]


def report_into(
    folder: Path, inputs: ReportInputs, options: ReportOptions, context: Context
) -> tuple[PathReport, list[Path]]:
    """Measure a transformer, and write ``report.html`` and ``report.json`` into a folder.

    Parameters
    ----------
    folder : Path
        Made if there is none, before the work.
    inputs, options, context
        See :func:`napari_cvsuite.paths.report.run`.

    Returns
    -------
    report : PathReport
    paths : list of Path
        Of the two files.

    Raises
    ------
    ImageError
        The folder cannot be made, or a file not be written.
    ValueError, UnknownModelError, CardError, WeightsError, DeviceError
        See :func:`napari_cvsuite.paths.report.run`.
    Cancelled
        Nothing is written then.
    """
    made_folder(folder)
    found = run(inputs, options, context)
    context.check()
    return found, write_report(found, folder)
