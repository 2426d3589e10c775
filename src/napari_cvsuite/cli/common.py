"""What the commands share: options as parameters, jobs on the queues, names of files and parts."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from napari_cvsuite.jobs import Context, Progress, option_specs, use_context
from napari_cvsuite.jobs.queues import JobClass, default_scheduler

if TYPE_CHECKING:
    from napari_cvsuite.models.subject import Likely

__all__ = [
    "compute",
    "likely_lines",
    "names_in",
    "run_job",
    "split_part",
    "table_column",
    "with_options",
]

T = TypeVar("T")
# A drive letter's colon, also after the \\?\ of long Windows paths, is part of the path.
_PART = re.compile(r"((?:\\\\\?\\)?(?:[A-Za-z]:)?[^:]*)(?::(.*))?", re.DOTALL)


def with_options(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one parameter for every declared option of `options`.

    The command receives the finished options object as ``options``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for name, p in signature.parameters.items() if name != "options"]
        specs = option_specs(options)

        def wrapper(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in specs}
            try:
                made = options(**chosen)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error
            command(options=made, **values)

        extra = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[
                    type(default),
                    typer.Option(
                        help=spec.help
                        + (f" One of: {', '.join(spec.choices)}." if spec.choices else ""),
                        min=spec.minimum,
                        max=spec.maximum,
                    ),
                ],
            )
            for name, (spec, default) in specs.items()
        ]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        wrapper.__signature__ = signature.replace(parameters=keyword + extra)  # type: ignore[attr-defined]
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__annotations__ = {p.name: p.annotation for p in keyword + extra}
        return wrapper

    return decorate


def run_job(
    fn: Callable[[Context], T],
    device: str = "io",
    job_class: JobClass = "batch",
    name: str = "job",
    quiet: bool = False,
) -> T:
    """Run ``fn(context)`` on a queue, with one line of progress on a terminal.

    Parameters
    ----------
    fn : callable
    device : str
        Name of a device, or ``"io"`` for work on files and downloads.
    job_class : {"interactive", "batch", "training"}
    name : str
        Name in the list of jobs.
    quiet : bool
        Show no progress.
    """
    shows = not quiet and sys.stderr.isatty()

    def show(progress: Progress) -> None:
        share = f"{progress.done / progress.total:4.0%} " if progress.total else ""
        sys.stderr.write(f"\r\x1b[K{share}{progress.message}")
        sys.stderr.flush()

    try:
        with use_context(Context(device, job_class, on_progress=show if shows else None)):
            return default_scheduler().run_inline(fn, device, job_class, name)
    except KeyboardInterrupt:
        # Said here, as typer turns it into exit code 130 without a word.
        typer.echo("napari-cvsuite: stopped", err=True)
        raise
    finally:
        if shows:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def compute(
    fn: Callable[[Context], T],
    device: str,
    job_class: JobClass = "batch",
    name: str = "job",
    quiet: bool = False,
) -> T:
    """Run ``fn(context)`` on the device called `device`; see :func:`run_job`.

    Raises
    ------
    DeviceError
        The device is not on this machine.
    """
    from napari_cvsuite.models.device import choose_device, limit_threads

    def job(context: Context) -> T:
        # On the worker: OpenMP keeps the number of threads for each thread that calls it.
        limit_threads()
        return fn(context)

    return run_job(job, choose_device(device), job_class, name, quiet)


def likely_lines(found: Sequence[Likely]) -> list[str]:
    """Return a line for each class, with its probability."""
    return [f"{one.probability:7.2%}  {one.name}" for one in found]


def split_part(source: str) -> tuple[str, str]:
    r"""Split ``FILE:part``, where FILE may begin with a drive such as ``C:\``.

    Returns
    -------
    file, part : str
        The part is empty where none is given.
    """
    match = _PART.fullmatch(source)
    assert match is not None
    return match.group(1), match.group(2) or ""


def table_column(source: str) -> tuple[Path | None, str]:
    """Split ``FILE.csv:column``; without a column it is "kind", without a file None."""
    table, column = split_part(source)
    return Path(table) if table else None, column or "kind"


def names_in(source: str) -> tuple[str, ...]:
    """Return names from a text file (one a line) or from ``FILE.json:key.key``.

    Raises
    ------
    ValueError
        The file cannot be read or lacks the entry.
    """
    if not source:
        return ()
    path, keys = split_part(source)
    try:
        text = Path(path).read_text(encoding="utf-8")
        if not path.endswith(".json"):
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        found = json.loads(text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check its name") from error
    except ValueError as error:
        raise ValueError(f"{path} is no text or JSON file: {error}; correct it") from error
    for key in filter(None, keys.split(".")):
        if not isinstance(found, dict) or key not in found:
            raise ValueError(f"{path} has no entry {keys!r}; write FILE.json:key.key")
        found = found[key]
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no list of names at {keys!r}; write FILE.json:key.key")
    return tuple(str(name) for name in found)
