"""What spoils images, at five levels each: seeded, for any depth, grayscale and colour.

Every distortion works on floats where 0 to 1 spans the data type, and gives back the data type it
was given. Levels run from 1, just visible, to 5, ruinous; level 0 is the image itself.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage
from scipy.signal import fftconvolve

__all__ = ["DISTORTIONS", "LEVELS", "Distortion", "DistortionError", "distort"]

LEVELS = 5
Array = NDArray[np.float32]
Rng = np.random.Generator


class DistortionError(ValueError):
    """An image or level cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Distortion:
    """One way to spoil an image.

    Parameters
    ----------
    name : str
    family : {"blur", "noise", "compression", "resolution", "tone", "artefact"}
    strengths : tuple of float
        The parameter at levels 1 to 5; each step is worse.
    apply : callable
        (H x W x C float32 in [0, 1], strength, generator) -> the same shape.
    direction : bool
        Whether a higher level is always worse. Contrast, exposure and saturation have no single
        worse direction.
    needs_colour : bool
        Whether it does nothing to grayscale.
    optical : bool
        Whether it happens to the light, so that the noise of a sensor lies on its result.
    """

    name: str
    family: str
    strengths: tuple[float, float, float, float, float]
    apply: Callable[[Array, float, Rng], Array]
    direction: bool = True
    needs_colour: bool = False
    optical: bool = False


def distort(
    image: NDArray[Any], name: str, level: int, seed: int = 0, strength: float | None = None
) -> NDArray[Any]:
    """Return a spoilt copy of an image.

    Parameters
    ----------
    image : ndarray of uint8, uint16 or float, shape (H, W) or (H, W, C), C of 1 or 3
        Floats must lie in [0, 1].
    name : str
        One of :data:`DISTORTIONS`.
    level : int
        0 (unchanged) to 5.
    seed : int
        The same seed gives the same result; the level does not change what is drawn, so that
        levels differ in strength alone.
    strength : float, optional
        Instead of that of the level.

    Returns
    -------
    ndarray
        Of the image's shape and type.

    Raises
    ------
    DistortionError
        The image is empty, of another type or shape, or has values that are not finite or outside
        [0, 1]; the name or level is unknown.
    """
    if name not in DISTORTIONS:
        raise DistortionError(f"there is no distortion {name!r}; use {', '.join(DISTORTIONS)}")
    if not 0 <= level <= LEVELS:
        raise DistortionError(f"level must lie between 0 and {LEVELS}; got {level}")
    pixels, top = _as_float(image)
    chosen = DISTORTIONS[name]
    if level == 0 or (chosen.needs_colour and pixels.shape[2] == 1):
        return image.copy()
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    worse = chosen.strengths[level - 1] if strength is None else strength
    spoilt = np.clip(chosen.apply(pixels, worse, rng), 0.0, 1.0)
    if top:
        spoilt = np.rint(spoilt * top)
    return spoilt.astype(image.dtype).reshape(image.shape)


def grained(
    crops: NDArray[np.uint8], most: float, rng: Rng, counted: bool = False
) -> NDArray[np.uint8]:
    """Return crops with the noise of a sensor, another one in each; gray crops stay gray.

    Parameters
    ----------
    crops : ndarray of uint8, shape (N, H, W, 3)
    most : float
        Standard deviation in steps of 8 bits.
    rng : Generator
    counted : bool
        Whether it grows with the root of the brightness, as that of counted light does, up to
        `most` where it is white; else it is the same everywhere.
    """
    channels = 3 if (crops != crops[..., :1]).any() else 1
    noise = rng.standard_normal((*crops.shape[:3], channels), np.float32) * np.float32(most)
    if counted:
        noise *= np.sqrt(crops[..., :channels] / np.float32(255))
    noisy: NDArray[np.uint8] = np.clip(np.rint(crops + noise), 0, 255).astype(np.uint8)
    return noisy


def _as_float(image: NDArray[Any]) -> tuple[Array, int]:
    """Return H x W x C in [0, 1], and the largest value of the type (0 for floats)."""
    if (
        image.ndim not in (2, 3)
        or image.size == 0
        or (image.ndim == 3 and image.shape[2] not in (1, 3))
    ):
        raise DistortionError(
            f"an image of shape {image.shape} cannot be used; give one plane, H x W or H x W x 3"
        )
    pixels = image if image.ndim == 3 else image[..., None]
    if image.dtype in (np.uint8, np.uint16):
        top = int(np.iinfo(image.dtype).max)
        return pixels.astype(np.float32) / np.float32(top), top
    if image.dtype.kind != "f":
        raise DistortionError(f"type {image.dtype} cannot be used; convert it to uint8 or uint16")
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise DistortionError("floats must be finite and lie in [0, 1]; scale the image first")
    return pixels.astype(np.float32), 0


# Blur ------------------------------------------------------------------------------------------


def _gaussian_blur(x: Array, sigma: float, rng: Rng) -> Array:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="reflect")


def _convolved(x: Array, kernel: NDArray[np.float64]) -> Array:
    """Convolve every channel with a kernel of odd sides, mirrored at the border."""
    half = [side // 2 for side in kernel.shape]
    padded = np.pad(x, ((half[0],) * 2, (half[1],) * 2, (0, 0)), mode="symmetric")
    weights = (kernel / kernel.sum())[..., None].astype(np.float32)
    found: Array = fftconvolve(padded, weights, mode="valid", axes=(0, 1)).astype(np.float32)
    return found


def _motion_blur(x: Array, length: float, rng: Rng) -> Array:
    angle = rng.uniform(0, np.pi)
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1,) * 2)
    # Ten points a pixel of the path, each shared by the four pixels it lies between.
    for step in np.linspace(-length / 2, length / 2, int(10 * length) + 1):
        y, x0 = half + step * np.sin(angle), half + step * np.cos(angle)
        top, left = int(np.floor(y)), int(np.floor(x0))
        for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x0 - column))
            if weight and row < len(kernel) and column < len(kernel):
                kernel[row, column] += weight
    return _convolved(x, kernel)


def _defocus(x: Array, radius: float, rng: Rng) -> Array:
    half = int(np.ceil(radius))
    # The disc is drawn ten times finer and averaged, so that its rim is smooth.
    fine = (np.arange((2 * half + 1) * 10) + 0.5) / 10 - (half + 0.5)
    disc = fine[:, None] ** 2 + fine**2 <= radius**2
    kernel = disc.reshape(2 * half + 1, 10, 2 * half + 1, 10).mean(axis=(1, 3))
    return _convolved(x, kernel)


# Noise -----------------------------------------------------------------------------------------


def _normal(x: Array, rng: Rng) -> Array:
    return rng.standard_normal(x.shape, dtype=np.float32)


def _gaussian_noise(x: Array, sigma: float, rng: Rng) -> Array:
    return x + np.float32(sigma) * _normal(x, rng)


def _poisson_noise(x: Array, darkness: float, rng: Rng) -> Array:
    """Count photons; `darkness` is one over the number that white stands for."""
    counted: Array = (rng.poisson(x / darkness) * darkness).astype(np.float32)
    return counted


def _speckle(x: Array, sigma: float, rng: Rng) -> Array:
    return x * (1 + np.float32(sigma) * _normal(x, rng))


def _salt_and_pepper(x: Array, share: float, rng: Rng) -> Array:
    drawn = rng.random(x.shape[:2])
    spoilt = x.copy()
    spoilt[drawn < share / 2] = 0.0
    spoilt[drawn > 1 - share / 2] = 1.0
    return spoilt


def _stripes(x: Array, sigma: float, rng: Rng) -> Array:
    """Give every row an offset and a gain of its own, as line scanners do."""
    offset = rng.standard_normal((x.shape[0], 1, 1)).astype(np.float32)
    gain = rng.standard_normal((x.shape[0], 1, 1)).astype(np.float32)
    return x * (1 + np.float32(sigma) * gain) + np.float32(sigma / 2) * offset


# Compression and resolution ------------------------------------------------------------------


def _through_codec(x: Array, codec: str, **options: Any) -> Array:
    """Write and read eight-bit pixels; finer steps of the original are lost, as in practice."""
    bytes_ = np.rint(x * 255).astype(np.uint8)
    picture = Picture.fromarray(bytes_[..., 0] if x.shape[2] == 1 else bytes_)
    written = io.BytesIO()
    picture.save(written, codec, **options)
    with Picture.open(written) as read:
        back = np.asarray(read.convert("L" if x.shape[2] == 1 else "RGB"))
    return back.reshape(x.shape).astype(np.float32) / np.float32(255)


def _jpeg(x: Array, loss: float, rng: Rng) -> Array:
    return _through_codec(x, "JPEG", quality=100 - int(loss))


def _webp(x: Array, loss: float, rng: Rng) -> Array:
    return _through_codec(x, "WEBP", quality=100 - int(loss), method=4)


def _down_up(x: Array, factor: float, rng: Rng) -> Array:
    """Average to fewer pixels and enlarge by cubic interpolation."""
    height, width = x.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    planes = []
    for channel in range(x.shape[2]):
        plane = Picture.fromarray(x[..., channel])
        shrunk = plane.resize(small, Picture.Resampling.BOX)
        planes.append(np.asarray(shrunk.resize((width, height), Picture.Resampling.BICUBIC)))
    return np.stack(planes, axis=-1)


def _banding(x: Array, step: float, rng: Rng) -> Array:
    """Keep few steps of brightness."""
    kept: Array = np.rint(x / np.float32(step)) * np.float32(step)
    return kept


# Tone ------------------------------------------------------------------------------------------


def _contrast(x: Array, loss: float, rng: Rng) -> Array:
    middle = x.mean(axis=(0, 1), keepdims=True)
    return middle + (x - middle) * np.float32(1 - loss)


def _overexposure(x: Array, stops: float, rng: Rng) -> Array:
    return x * np.float32(2**stops)


def _underexposure(x: Array, stops: float, rng: Rng) -> Array:
    """Fewer stops of light, in eight bits: what is lost is lost."""
    darker: Array = np.rint(x * np.float32(2**-stops) * 255) / np.float32(255)
    return darker


def _saturation(x: Array, loss: float, rng: Rng) -> Array:
    gray = x.mean(axis=2, keepdims=True)
    return gray + (x - gray) * np.float32(1 - loss)


def _vignetting(x: Array, loss: float, rng: Rng) -> Array:
    """Darken towards the corners around a centre that is a little off the middle."""
    centre = 0.5 + rng.uniform(-0.1, 0.1, 2)
    y = (np.arange(x.shape[0]) + 0.5) / x.shape[0] - centre[0]
    across = (np.arange(x.shape[1]) + 0.5) / x.shape[1] - centre[1]
    distance = (y[:, None] ** 2 + across**2) / 0.5
    return x * (1 - np.float32(loss) * np.minimum(distance, 1.0))[..., None].astype(np.float32)


# Artefacts of instruments ----------------------------------------------------------------------


def _seams(x: Array, strength: float, rng: Rng) -> Array:
    """Stitch tiles of 3 x 3 whose gain and place do not fit."""
    height, width = x.shape[:2]
    rows, columns = (np.linspace(0, side, 4).astype(int) for side in (height, width))
    gains, moves = rng.uniform(-1, 1, (3, 3)), rng.uniform(-1, 1, (3, 3, 2))
    spoilt = x.copy()
    for i in range(3):
        for j in range(3):
            # A tile is moved by up to 20 pixels at full strength, and 40 % brighter or darker.
            dy, dx = np.rint(20 * strength * moves[i, j]).astype(int)
            ys = np.clip(np.arange(rows[i], rows[i + 1]) + dy, 0, height - 1)
            xs = np.clip(np.arange(columns[j], columns[j + 1]) + dx, 0, width - 1)
            gain = np.float32(1 + 0.4 * strength * gains[i, j])
            spoilt[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = x[np.ix_(ys, xs)] * gain
    return spoilt


def _dust(x: Array, share: float, rng: Rng) -> Array:
    """Put dark, blurred spots on the image until they cover about `share` of it."""
    height, width = x.shape[:2]
    side = float(np.sqrt(height * width))
    y, across = np.arange(height)[:, None], np.arange(width)
    dimmed, covered = np.ones((height, width), np.float32), 0.0
    while covered < share:
        radius = max(1.0, side * rng.uniform(0.008, 0.03))
        top, left, depth = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.3, 0.8)
        distance = np.sqrt((y - top) ** 2 + (across - left) ** 2) / radius
        dimmed *= (1 - depth / (1 + np.exp(np.minimum(8 * (distance - 1), 50.0)))).astype(
            np.float32
        )
        covered += np.pi * radius**2 / (height * width)
    return x * dimmed[..., None]


def _bleed_through(x: Array, share: float, rng: Rng) -> Array:
    """Let another channel, or in grayscale a ghost of the image itself, shine through."""
    if x.shape[2] == 3:
        other = np.roll(x, 1, axis=2)
    else:
        other = x[::-1, ::-1]
    return x + np.float32(share) * other


DISTORTIONS: dict[str, Distortion] = {
    one.name: one
    for one in (
        Distortion(
            "gaussian blur", "blur", (0.7, 1.2, 2.0, 3.2, 5.0), _gaussian_blur, optical=True
        ),
        Distortion("motion blur", "blur", (3.0, 6.0, 10.0, 16.0, 25.0), _motion_blur, optical=True),
        Distortion("defocus", "blur", (1.2, 2.0, 3.2, 5.0, 8.0), _defocus, optical=True),
        Distortion("gaussian noise", "noise", (0.015, 0.03, 0.06, 0.12, 0.22), _gaussian_noise),
        Distortion("poisson noise", "noise", (0.002, 0.007, 0.02, 0.06, 0.2), _poisson_noise),
        Distortion("speckle", "noise", (0.06, 0.12, 0.22, 0.4, 0.7), _speckle),
        Distortion("salt and pepper", "noise", (0.003, 0.01, 0.03, 0.07, 0.16), _salt_and_pepper),
        Distortion("jpeg", "compression", (40.0, 65.0, 80.0, 90.0, 96.0), _jpeg),
        Distortion("webp", "compression", (45.0, 70.0, 85.0, 94.0, 99.0), _webp),
        Distortion("down and up", "resolution", (1.5, 2.2, 3.2, 5.0, 8.0), _down_up),
        Distortion("banding", "tone", (1 / 48, 1 / 24, 1 / 12, 1 / 7, 1 / 4), _banding),
        Distortion("contrast", "tone", (0.2, 0.4, 0.55, 0.7, 0.85), _contrast, direction=False),
        Distortion(
            "overexposure", "tone", (0.3, 0.6, 1.0, 1.5, 2.2), _overexposure, direction=False
        ),
        Distortion(
            "underexposure", "tone", (0.5, 1.0, 1.8, 2.8, 4.0), _underexposure, direction=False
        ),
        Distortion(
            "saturation",
            "tone",
            (0.25, 0.45, 0.65, 0.85, 1.0),
            _saturation,
            direction=False,
            needs_colour=True,
        ),
        Distortion("vignetting", "tone", (0.15, 0.3, 0.5, 0.7, 0.9), _vignetting, optical=True),
        Distortion("stripes", "artefact", (0.015, 0.035, 0.07, 0.14, 0.28), _stripes),
        Distortion("stitching seams", "artefact", (0.1, 0.25, 0.45, 0.7, 1.0), _seams),
        Distortion("dust", "artefact", (0.005, 0.015, 0.04, 0.08, 0.15), _dust, optical=True),
        Distortion(
            "bleed-through", "artefact", (0.08, 0.16, 0.28, 0.45, 0.7), _bleed_through, optical=True
        ),
    )
}
"""Distortions by name."""
