"""Adam without torch's optimisers, which load torch's compiler.

Its LLVM crashes beside the one of Mesa's software OpenGL, so that nothing that runs in napari's
process may load it.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["Adam"]


class Adam:
    """Steps of Adam (Kingma and Ba, arXiv 1412.6980) for one tensor.

    Parameters
    ----------
    rate : float
        Length of a step along each axis where the gradient keeps its sign.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.steps = rate, 0
        self.mean: Tensor | float = 0.0
        self.square: Tensor | float = 0.0

    def step(self, slope: Tensor) -> Tensor:
        """Return what is to be subtracted, given the gradient of what shall become less."""
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.999 * self.square + 0.001 * slope**2
        deviation = (self.square / (1 - 0.999**self.steps)).sqrt()
        return self.rate * (self.mean / (1 - 0.9**self.steps)) / (deviation + 1e-8)
