"""A picture of a training run: loss and validation score against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["draw_curve"]


def draw_curve(rows: Sequence[Mapping[str, str]], score_name: str, path: Path) -> None:
    """Draw the log of a run as PNG.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of ``log.csv``: ``epoch``, ``loss``, and the score in rows with a validation.
    score_name : str
        Column of the score, drawn on the right axis, in [0, 1]; empty draws the loss alone.
    path : Path
        Written whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    # Here, as it takes a second to import; and without pyplot, whose state belongs to the user.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    left.plot([float(row["epoch"]) for row in rows], [float(row["loss"]) for row in rows], "C0-")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="C0")
    left.grid(alpha=0.3)
    measured = [row for row in rows if score_name and row.get(score_name)]
    if measured:
        right = left.twinx()
        epochs = [float(row["epoch"]) for row in measured]
        right.plot(epochs, [float(row[score_name]) for row in measured], "C1.-")
        right.set_ylabel(score_name.replace("val_", "validation "), color="C1")
        right.set_ylim(0, 1)
    partial = path.with_suffix(".partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)
