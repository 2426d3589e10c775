"""A report on a pair that is measured and written in one go."""

from __future__ import annotations

from pathlib import Path

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.options import ReportOptions
from napari_cvsuite.neurons.report import PairReport, ReportInputs, run
from napari_cvsuite.neurons.report_html import write_report
from napari_cvsuite.reports.files import made_folder

__all__ = ["report_into"]


def report_into(
    folder: Path, inputs: ReportInputs, options: ReportOptions, context: Context
) -> tuple[PairReport, list[Path]]:
    """Measure a pair, and write ``report.html`` and ``report.json`` into a folder.

    Parameters
    ----------
    folder : Path
        Made if there is none, before the work.
    inputs, options, context
        See :func:`napari_cvsuite.neurons.report.run`.

    Returns
    -------
    report : PairReport
    paths : list of Path
        Of the two files.

    Raises
    ------
    ImageError
        The folder cannot be made, or a file not be written.
    OptionError, ValueError, SpoolError, UnknownModelError, CardError, WeightsError, DeviceError
        See :func:`napari_cvsuite.neurons.report.run`.
    Cancelled
        Nothing is written then.
    """
    made_folder(folder)
    found = run(inputs, options, context)
    context.check()
    return found, write_report(found, folder)
