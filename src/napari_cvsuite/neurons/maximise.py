"""Images that make a neuron or a class answer most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.adam import Adam
from napari_cvsuite.neurons.options import MaximiseOptions
from napari_cvsuite.neurons.target import Scores, Target

__all__ = ["Maximised", "maximise"]

SIDE, PREVIEW_EVERY = 224, 16
"""Of the image where none is chosen, in pixels; and steps between two previews."""
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
"""Square root of the covariance of colours in photographs (Olah et al. 2017)."""


@dataclass(frozen=True)
class Maximised:
    """What the ascent found.

    Parameters
    ----------
    image : Tensor, shape (3, H, W)
        On the CPU, in [0, 1].
    scores : tuple of float
        Target of the image before each step, where jitter had moved it, and of the final image.
    """

    image: Tensor
    scores: tuple[float, ...]


def maximise(
    network: nn.Module,
    target: Target,
    options: MaximiseOptions | None = None,
    context: Context | None = None,
) -> Maximised:
    """Search an image for which the target is large (Erhan et al. 2009; Olah et al. 2017).

    Fourier: Adam on the image's spectrum, frequencies weighted as in photographs, colours
    decorrelated, squeezed to [0, 1] by a sigmoid (doi 10.23915/distill.00007). Pixels: steps along
    the gradient, all of one length, clipped to [0, 1].

    Parameters
    ----------
    network : nn.Module
        Maps ``B x 3 x H x W`` in [0, 1] to logits ``B x K``, in eval mode.
    target : Target
        Most often a channel of a layer.
    options : MaximiseOptions, optional
    context : Context, optional
        Asked for cancellation at each step; told of progress, with the image as an H x W x 3
        array of float32 for preview.

    Returns
    -------
    Maximised

    Raises
    ------
    ValueError
        The network has no such target.
    Cancelled
        The context says so.
    """
    options, context = (options or MaximiseOptions()).resolved(SIDE), context or Context()
    scores = Scores(network, target)
    weight = next(network.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(options.seed)
    canvas: _Canvas = (_Spectrum if options.parameters == "fourier" else _Pixels)(
        options, generator, weight
    )
    values = []
    for step in range(options.steps):
        preview = None
        if step % PREVIEW_EVERY == 0:
            preview = canvas.image().detach()[0].permute(1, 2, 0).float().cpu().numpy()
        context.progress(step, options.steps, "ascent", preview)
        up, left = torch.randint(
            -options.jitter, options.jitter + 1, (2,), generator=generator
        ).tolist()
        with torch.enable_grad():
            image = canvas.image()
            score = scores(image.roll((up, left), (2, 3)))[0]
            aim = score - options.tv_weight * _mean_variation(image)
            (grad,) = torch.autograd.grad(aim, canvas.free)
        values.append(float(score.detach()))
        canvas.climb(grad)
    with torch.no_grad():
        final = canvas.image()
        values.append(float(scores(final)[0]))
    return Maximised(final[0].detach().cpu(), tuple(values))


class _Canvas(Protocol):
    """An image made from free numbers, which a gradient can change."""

    free: Tensor

    def image(self) -> Tensor:
        """Return the image ``1 x 3 x H x W`` in [0, 1]."""
        ...

    def climb(self, grad: Tensor) -> None:
        """Take a step upwards."""
        ...


class _Spectrum:
    """A spectrum of real and imaginary parts, and Adam."""

    def __init__(self, options: MaximiseOptions, generator: torch.Generator, like: Tensor) -> None:
        side = options.size
        rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
        frequency = (rows**2 + columns**2).sqrt().clamp_min(1 / side)
        # Amplitudes fall with frequency, as they do in photographs.
        self.scale = (1 / frequency).to(like)[..., None]
        start = 0.01 * torch.randn((3, *frequency.shape, 2), generator=generator)
        self.free = start.to(like).requires_grad_()
        self.side, self.adam = side, Adam(options.learning_rate)
        self.colours = (_COLOURS / _COLOURS.norm(dim=0).max()).to(like)

    def image(self) -> Tensor:
        spectrum = torch.view_as_complex(self.free * self.scale)
        plain = torch.fft.irfft2(spectrum, (self.side, self.side), norm="ortho")
        return torch.einsum("ij,jhw->ihw", self.colours, plain / 4)[None].sigmoid()

    def climb(self, grad: Tensor) -> None:
        moved = self.free.detach() - self.adam.step(-grad)
        self.free = moved.requires_grad_()


class _Pixels:
    """Pixels, and steps along the gradient."""

    def __init__(self, options: MaximiseOptions, generator: torch.Generator, like: Tensor) -> None:
        noise = torch.randn((1, 3, options.size, options.size), generator=generator)
        self.free = (0.5 + 0.01 * noise).clamp(0, 1).to(like).requires_grad_()
        self.length = options.learning_rate * math.sqrt(noise.numel())

    def image(self) -> Tensor:
        return self.free

    def climb(self, grad: Tensor) -> None:
        norm = grad.norm()
        # A neuron that is silent gives no direction.
        direction = grad / torch.where(norm > 0, norm, 1)
        moved = (self.free.detach() + self.length * direction).clamp(0, 1)
        self.free = moved.requires_grad_()


def _mean_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of vertical neighbours, and of horizontal ones, added."""
    rows, columns = image.diff(dim=2).abs().mean(), image.diff(dim=3).abs().mean()
    return rows + columns
