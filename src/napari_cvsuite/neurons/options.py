"""Options of the jobs that look into classifiers. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from napari_cvsuite.jobs.options import BatchOption, Option, OptionError, Options, SeedOption
from napari_cvsuite.jobs.registry import JobSpec
from napari_cvsuite.models.view_options import ViewOptions

__all__ = [
    "AblateOptions",
    "ActivationOptions",
    "AttackOptions",
    "BiasOptions",
    "DEFAULT_MODEL",
    "DissectOptions",
    "JOBS",
    "MaximiseOptions",
    "NeuronOptions",
    "PatchOptions",
    "ReportOptions",
    "SaliencyOptions",
    "SmoothnessOptions",
    "channel_list",
]

DEFAULT_MODEL = "cifar-resnet-s"
GRADIENTS = (
    "gradient",
    "gradient_x_input",
    "smoothgrad",
    "integrated_gradients",
    "guided",
    "deconvolution",
    "deeplift",
)
CAMS = ("gradcam", "gradcampp", "layercam")
METHODS = (*GRADIENTS, *CAMS, "occlusion", "rise")


@dataclass(frozen=True)
class NeuronOptions(ViewOptions):
    """What a user can choose of the classifier and of what it sees."""

    model: str = Option(DEFAULT_MODEL, label="Model", help="Name of a classifier in the catalogue.")


@dataclass(frozen=True)
class TargetOptions(NeuronOptions):
    """Options of jobs that explain one number of the network."""

    target: str = Option(
        "",
        label="Target",
        help="A class by name or number, CLASS-CLASS for a difference, LAYER:CHANNEL for a "
        "channel's mean, LAYER:CHANNEL:Y,X for one neuron; empty takes the predicted class.",
    )


@dataclass(frozen=True)
class SaliencyOptions(TargetOptions):
    """Options of a saliency map."""

    method: str = Option(
        "gradient", label="Method", help="How the map is computed.", choices=METHODS
    )
    layer: str = Option(
        "",
        label="Layer",
        help="Layer of the class activation maps; empty takes the last one.",
    )
    check: bool = Option(
        False,
        label="Check map",
        help="Measure how faithful the map is, beside a random map: insertion, deletion, "
        "infidelity, sensitivity, and whether it changes when the network's weights are random.",
    )
    samples: int = Option(
        16,
        label="Samples",
        help="Noisy copies of SmoothGrad.",
        minimum=1,
        maximum=1000,
        advanced=True,
    )
    sigma: float = Option(
        0.1,
        label="Noise",
        help="Deviation of SmoothGrad's noise, where white is 1.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    baseline: float = Option(
        0.0,
        label="Baseline",
        help="Grey value of integrated gradients' and DeepLift's baseline; 0 is black.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    tolerance: float = Option(
        0.01,
        label="Tolerance",
        help="Completeness gap at which integrated gradients stop adding steps.",
        minimum=1e-6,
        maximum=1.0,
        advanced=True,
    )
    window: int = Option(
        0,
        label="Window",
        help="Side of occlusion's square in pixels that the network sees; 0 takes a seventh.",
        minimum=0,
        maximum=2048,
        unit="px",
        advanced=True,
    )
    stride: int = Option(
        0,
        label="Stride",
        help="Steps of the square; 0 takes half a window.",
        minimum=0,
        maximum=2048,
        unit="px",
        advanced=True,
    )
    fill: float = Option(
        0.5,
        label="Fill",
        help="Grey value of the square.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    masks: int = Option(
        1000,
        label="Masks",
        help="Random masks of RISE.",
        minimum=2,
        maximum=100_000,
        advanced=True,
    )
    cells: int = Option(
        7, label="Cells", help="Cells of a mask, a side.", minimum=1, maximum=64, advanced=True
    )
    shown: float = Option(
        0.5,
        label="Shown",
        help="Share of cells that are shown.",
        minimum=0.01,
        maximum=0.99,
        advanced=True,
    )
    batch: int = BatchOption(16)
    seed: int = SeedOption("Of all that is drawn.")


@dataclass(frozen=True)
class LayerOptions(NeuronOptions):
    """Options of jobs that look at one layer."""

    layer: str = Option(
        "", label="Layer", help="Name of a layer of the network; empty takes the last one."
    )


@dataclass(frozen=True)
class ActivationOptions(LayerOptions):
    """Options of the activation of the channels of a layer."""

    channel: int = Option(
        -1,
        label="Channel",
        help="Number of a channel, from 0; -1 gives all of them.",
        minimum=-1,
        maximum=100_000,
    )


@dataclass(frozen=True)
class PatchOptions(LayerOptions):
    """Options of the patches that activate channels most."""

    top: int = Option(
        9, label="Patches", help="Patches kept for each channel.", minimum=1, maximum=100
    )
    channel: int = Option(
        -1,
        label="Channel",
        help="Number of a channel, from 0; -1 takes all of them.",
        minimum=-1,
        maximum=100_000,
    )


@dataclass(frozen=True)
class DissectOptions(LayerOptions):
    """Options of network dissection on the user's own labels."""

    preset: str = Option(
        "labels",
        label="Preset",
        help="labels: quantile chosen on half of the images, measured on the other half, with "
        "chance, ceiling and p-values. paper: quantile 0.005, detectors from IoU 0.04.",
        choices=("labels", "paper"),
    )
    quantile: float = Option(
        0.005,
        label="Quantile",
        help="Share of positions above the threshold, of the preset paper.",
        minimum=0.0001,
        maximum=0.5,
        advanced=True,
    )
    cut: float = Option(
        0.04,
        label="Cut",
        help="IoU from which a channel counts as a detector.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    shifts: int = Option(
        200,
        label="Shifts",
        help="Random shifts of the masks for the p-values; 0 for none.",
        minimum=0,
        maximum=10_000,
        advanced=True,
    )
    seed: int = SeedOption("Of halves and shifts.")


@dataclass(frozen=True)
class AttackOptions(NeuronOptions):
    """Options of an attack on the current image."""

    label: str = Option(
        "",
        label="Class",
        help="Class to lead away from, by name or number; empty takes the predicted one.",
    )
    norm: str = Option(
        "l2",
        label="Distance",
        help="How the size of a change is measured: over all pixels (l2), or the largest (linf).",
        choices=("l2", "linf"),
    )
    eps: float = Option(
        0.0,
        label="Radius",
        help="Largest change, intensities from 0 to 1; 0 suggests one for the size: "
        "0.008 sqrt(3 H W) for l2 (definition of this project), 8/255 for linf.",
        minimum=0.0,
        maximum=1000.0,
    )
    steps: int = Option(10, label="Steps", help="Steps of the attack.", minimum=1, maximum=1000)


@dataclass(frozen=True)
class AblateOptions(LayerOptions):
    """Options of silenced channels."""

    silenced: str = Option(
        "",
        label="Channels",
        help="Numbers from 0, such as 3,7-9; empty silences each channel in turn.",
    )
    mode: str = Option(
        "zero",
        label="Mode",
        help="Set the channels to zero, keep only them, or set them to their mean over the image.",
        choices=("zero", "keep", "mean"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        channel_list(self.silenced)


@dataclass(frozen=True)
class SmoothnessOptions(NeuronOptions):
    """Options of the measures of smoothness and noise."""

    sigma: float = Option(
        0.1,
        label="Noise",
        help="Deviation of the noise that is added, where white is 1.",
        minimum=0.001,
        maximum=1.0,
    )
    seed: int = SeedOption("Of the noise.")


@dataclass(frozen=True)
class MaximiseOptions(LayerOptions):
    """Options of the image that a channel likes most."""

    channel: int = Option(
        0, label="Channel", help="Number of the channel, from 0.", minimum=0, maximum=100_000
    )
    parameters: str = Option(
        "fourier",
        label="Ascent on",
        help="Fourier for any network; pixels show what adversarially trained ones have learned.",
        choices=("fourier", "pixels"),
    )
    steps: int = Option(256, label="Steps", help="Steps of ascent.", minimum=1, maximum=100_000)
    size: int = Option(
        0,
        label="Size",
        help="Side of the image; 0 takes that of the network.",
        minimum=0,
        maximum=2048,
        unit="px",
    )
    learning_rate: float = Option(
        0.05,
        label="Learning rate",
        help="Fourier: step of Adam. Pixels: root mean square of a step, where white is 1.",
        minimum=1e-6,
        maximum=10.0,
        advanced=True,
    )
    jitter: int = Option(
        -1,
        label="Jitter",
        help="Pixels by which the image is moved at random before each step, at most; -1 takes a "
        "sixteenth of the side.",
        minimum=-1,
        maximum=1024,
        unit="px",
        advanced=True,
    )
    tv_weight: float = Option(
        0.0,
        label="Smoothness",
        help="Weight of the mean absolute difference of neighbours, which is subtracted.",
        minimum=0.0,
        maximum=1e6,
        advanced=True,
    )
    seed: int = SeedOption("Of all that is drawn.")

    def resolved(self, side: int) -> Self:
        """Return the options with a size and a jitter, for a network of that input side."""
        size = self.size or side
        return replace(self, size=size, jitter=size // 16 if self.jitter < 0 else self.jitter)


@dataclass(frozen=True)
class BiasOptions(NeuronOptions):
    """Options of the bias towards shape or texture."""

    rule: str = Option(
        "mean",
        label="Rule",
        help="How the probabilities of a category's classes become its score (Geirhos et al.: "
        "mean).",
        choices=("mean", "sum", "max"),
    )
    batch: int = BatchOption(32)


@dataclass(frozen=True)
class ReportOptions(Options):
    """Options of the report on a pair of a standard and a robust classifier."""

    pair: str = Option(
        "cifar-resnet",
        label="Pair",
        help="Name of the pair: NAME-s is its standard model, NAME-r the robust one.",
    )
    limit: int = Option(
        1000,
        label="Images",
        help="Images used at most, as many of each class as there are.",
        minimum=2,
        maximum=1_000_000,
    )
    layer: str = Option(
        "",
        label="Layer",
        help="Layer that is dissected and of which channels are silenced; empty takes the last.",
    )
    sigma: float = Option(
        0.1,
        label="Noise",
        help="Deviation of the noise that layers have to block, where white is 1.",
        minimum=0.001,
        maximum=1.0,
    )
    top: int = Option(
        49,
        label="Top images",
        help="Images of each channel among which classes are counted; at most a quarter of all.",
        minimum=2,
        maximum=1000,
        advanced=True,
    )
    batch: int = BatchOption(32)
    seed: int = SeedOption("Of the choice of images, the noise, the shifts and the intervals.")


def channel_list(text: str) -> tuple[int, ...]:
    """Read channel numbers such as ``3,7-9``.

    Raises
    ------
    OptionError
        The text is something else.
    """
    numbers: list[int] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise OptionError(f"channels are numbers from 0, such as 3,7-9; got {text!r}")
        numbers += range(int(first), int(last if dash else first) + 1)
    return tuple(dict.fromkeys(numbers))


def _job(name: str, run: str, options: str, title: str, help: str, batch: bool = False) -> JobSpec:
    return JobSpec(
        name=f"neurons.{name}",
        run=f"napari_cvsuite.neurons.{run}",
        options=f"napari_cvsuite.neurons.options:{options}",
        title=title,
        help=help,
        job_class="batch" if batch else "interactive",
    )


JOBS = {
    "predict": _job(
        "predict",
        "explain:predict",
        "NeuronOptions",
        "Classify",
        "Name the likeliest classes of an image.",
    ),
    "saliency": _job(
        "saliency",
        "explain:run",
        "SaliencyOptions",
        "Saliency",
        "Map which pixels a class or a neuron depends on.",
    ),
    "channels": _job(
        "channels",
        "browse:run",
        "ActivationOptions",
        "Channels",
        "Show what the channels of a layer give for an image.",
    ),
    "patches": _job(
        "patches",
        "favourites:run",
        "PatchOptions",
        "Top patches",
        "Find the parts of images that excite channels most.",
        batch=True,
    ),
    "attack": _job(
        "attack",
        "mislead:run",
        "AttackOptions",
        "Attack",
        "Search a small change that misleads the classifier.",
    ),
    "ablate": _job(
        "ablate",
        "silence:run",
        "AblateOptions",
        "Ablate",
        "Silence channels and see what the prediction becomes.",
    ),
    "simplicity": _job(
        "simplicity",
        "simplicity:run",
        "SmoothnessOptions",
        "Simplicity",
        "Measure how smooth a classifier is, and what noise does.",
    ),
    "maximise": _job(
        "maximise",
        "dream:run",
        "MaximiseOptions",
        "Maximise",
        "Search the image that a channel likes most.",
    ),
    "dissect": _job(
        "dissect",
        "dissecting:run",
        "DissectOptions",
        "Dissect",
        "Find which channels of a layer detect your labels.",
        batch=True,
    ),
    "bias": _job(
        "bias",
        "bias:conflict",
        "BiasOptions",
        "Shape or texture",
        "Count decisions for shape and for texture.",
        batch=True,
    ),
    "controls": _job(
        "controls",
        "control_accuracy:controls",
        "BiasOptions",
        "Controls",
        "Measure accuracy on distorted copies of images.",
        batch=True,
    ),
    "copies": replace(
        _job(
            "copies",
            "copies:run",
            "CopyOptions",
            "Copies",
            "Distort what the network sees of an image, and classify the copies.",
        ),
        options="napari_cvsuite.neurons.copy_options:CopyOptions",
    ),
    "classes": replace(
        _job(
            "classes",
            "class_map:run",
            "ClassMapOptions",
            "Classes",
            "Map which class leads at each place of an image.",
        ),
        options="napari_cvsuite.neurons.class_map_options:ClassMapOptions",
    ),
    "report": _job(
        "report",
        "report:run",
        "ReportOptions",
        "Report",
        "Report what adversarial training changed in a pair of classifiers.",
        batch=True,
    ),
}
