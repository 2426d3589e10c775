"""Find a job by name without importing anything but the package's own rooms."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_cvsuite.jobs.queues import JobClass

__all__ = ["ROOMS", "JobSpec", "UnknownJob", "find"]

ROOMS = ("segmentation", "quality", "neurons", "paths", "training", "workflow")
_NAME = re.compile(rf"({'|'.join(ROOMS)})\.([a-z][a-z0-9_]*)", re.ASCII)
_TARGET = re.compile(rf"napari_cvsuite\.({'|'.join(ROOMS)})(\.[a-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class UnknownJob(ValueError):
    """No job has this name."""


@dataclass(frozen=True)
class JobSpec:
    """What the doors need to know of a job before its code is imported.

    Parameters
    ----------
    name : str
        ``"room.job"``.
    run, options : str
        ``"package.module:object"`` of the function and of its options class.
    title, help : str
        Short name and one sentence.
    job_class : {"interactive", "batch", "training"}
        How the queue treats the job.
    """

    name: str
    run: str
    options: str
    title: str
    help: str
    job_class: JobClass = "interactive"

    def load_run(self) -> Callable[..., Any]:
        """Import and return the function that does the job."""
        loaded: Callable[..., Any] = _load(self.run)
        return loaded

    def load_options(self) -> type[Any]:
        """Import and return the options class."""
        loaded: type[Any] = _load(self.options)
        return loaded


def _load(target: str) -> Any:
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{target!r} is not of the form napari_cvsuite.<room>.<module>:<object>")
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def find(name: str) -> JobSpec:
    """Return the job called `name` (``"room.job"``), or raise :class:`UnknownJob`."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise UnknownJob(f"{name!r} is no job name; write room.job, room one of {', '.join(ROOMS)}")
    room, job = match.groups()
    module = f"napari_cvsuite.{room}.options"
    try:
        jobs: dict[str, JobSpec] = importlib.import_module(module).JOBS
    except ModuleNotFoundError as error:
        # A missing dependency of an existing room is another fault and must stay visible.
        if error.name not in (module, module.rpartition(".")[0]):
            raise
        raise UnknownJob(f"there is no room {room!r} in this version, asked for {name!r}") from None
    if job not in jobs:
        raise UnknownJob(f"there is no job {name!r}; {room} has {', '.join(sorted(jobs))}")
    return jobs[job]
