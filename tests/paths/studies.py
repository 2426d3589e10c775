"""Networks of studies that were never trained."""

from __future__ import annotations

from napari_cvsuite.paths.rows import Score
from napari_cvsuite.paths.study_measure import Gain, Measured
from napari_cvsuite.paths.study_result import Trained
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import wilson


def trained(variant: str, layers: int, seed: int, right: int, short: float = 0.5) -> Trained:
    """Return a network that names so many of 100 images rightly, and of its short paths a share."""
    score, nothing = Score(0.3, right / 100, 100), Interval(0.0, -0.01, 0.01)
    gain = Gain((), (score, score), (score, score), nothing)
    lens = (0.1, *[short] * (layers - 1), right / 100)
    stream, scaled = (1.0, *[2.0] * layers), {"scalar": gain, "channel": gain}
    measured = Measured(wilson(right, 100), 0.3, lens, lens, stream, gain, scaled)
    return Trained(variant, layers, seed, 10, 80, 20, right / 100, 1.0, measured)
