"""The studies of deep transformers that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_cvsuite.paths.report_parts import Studies, StudyPart
from napari_cvsuite.paths.study_read import packaged_studies, read_study
from napari_cvsuite.paths.study_result import kind_rows
from napari_cvsuite.reports.claims import Skipped

__all__ = ["studies_of"]

NONE = "No study of deep transformers was given (--study), and none comes with this version."


def studies_of(files: Sequence[Path]) -> Studies | Skipped:
    """Return the studies in some files; without any, those that come with the package.

    Raises
    ------
    StudyFileError
        A file is no study.
    """
    found = [read_study(path) for path in files] if files else packaged_studies()
    parts = tuple(StudyPart(study, kind_rows(study)) for study in found if study.runs)
    return Studies(parts) if parts else Skipped(NONE)
