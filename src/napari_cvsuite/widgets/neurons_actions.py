"""What the Neurons dock can do, and what each of it asks for; knows no Qt and loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import Options
from napari_cvsuite.neurons.class_map_options import ClassMapOptions
from napari_cvsuite.neurons.copy_options import CopyOptions
from napari_cvsuite.neurons.options import (
    AblateOptions,
    ActivationOptions,
    AttackOptions,
    BiasOptions,
    DissectOptions,
    MaximiseOptions,
    NeuronOptions,
    PatchOptions,
    ReportOptions,
    SaliencyOptions,
    SmoothnessOptions,
)
from napari_cvsuite.widgets import neurons_job as job
from napari_cvsuite.widgets.neurons_task import Task

__all__ = [
    "ABLATE",
    "ACTIONS",
    "ATTACK",
    "BIAS",
    "CHANNELS",
    "CLASSES",
    "CONTROLS",
    "COPIES",
    "DISSECT",
    "FOLDER_PATCHES",
    "MAXIMISE",
    "PATCHES",
    "REPORT",
    "SALIENCY",
    "SIMPLICITY",
    "TABS",
    "Action",
    "actions_of",
]

SALIENCY = "Saliency map"
CLASSES = "Class at each place"
CHANNELS = "All channels of a layer"
MAXIMISE = "Image a channel likes most"
DISSECT = "Dissection"
BIAS = "Shape bias"
CONTROLS = "Accuracy on distorted copies"
COPIES = "Distorted copies of the image"
SIMPLICITY = "Simplicity"
REPORT = "Report on the pair"
ATTACK = "Attack"
ABLATE = "Ablation"
PATCHES = "Top patches of the stack"
FOLDER_PATCHES = "Top patches of a folder"
"""Names of the actions."""
TABS = ("Saliency", "Channels", "Dissect", "Bias", "Attack & ablate")
_SHARED = tuple(field.name for field in fields(NeuronOptions))


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Parameters
    ----------
    name : str
        In the list of a tab, and by which it is remembered.
    tab : str
        One of :data:`TABS`.
    button : str
        Text of the button that starts it.
    tip : str
        The question it answers.
    options : type of Options
    work : callable
        Does it on the worker thread.
    asks : tuple of str
        Fields of the dock that it needs: ``target``, ``against``, ``label``, ``layer``,
        ``channel``, ``radius``, ``concepts``, ``mask``, ``folder`` and ``data``.
    own : tuple of str
        Options that these fields give, and ``pair``, which the two models give.
    needs_image : bool
    folder : str
        What the folder holds.
    unused : tuple of str
        Options that make no difference.
    """

    name: str
    tab: str
    button: str
    tip: str
    options: type[Options]
    work: Callable[[Task, Context], list[Any]]
    asks: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    needs_image: bool = True
    folder: str = ""
    unused: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Options that the form of the action does not ask for."""
        return (*_SHARED, *self.own, *self.unused)


_ALL = (
    Action(
        SALIENCY,
        "Saliency",
        "Map",
        "Which pixels does a class depend on?",
        SaliencyOptions,
        job.saliency,
        ("target", "against", "layer", "mask"),
        ("target", "layer"),
    ),
    Action(
        CLASSES,
        "Saliency",
        "Map classes",
        "Which class leads at each place of the image?",
        ClassMapOptions,
        job.classes,
    ),
    Action(
        CHANNELS,
        "Channels",
        "Show channels",
        "What does each channel of a layer give for this image?",
        ActivationOptions,
        job.channels,
        ("layer", "channel"),
        ("layer", "channel"),
    ),
    Action(
        MAXIMISE,
        "Channels",
        "Maximise",
        "Which image excites one channel most?",
        MaximiseOptions,
        job.maximise,
        ("layer", "channel"),
        ("layer", "channel"),
        needs_image=False,
    ),
    Action(
        PATCHES,
        "Channels",
        "Find patches",
        "Which parts of the slices excite a channel most?",
        PatchOptions,
        job.patches,
        ("layer", "channel"),
        ("layer", "channel"),
    ),
    Action(
        FOLDER_PATCHES,
        "Channels",
        "Find patches",
        "Which parts of many images excite a channel most?",
        PatchOptions,
        job.patches,
        ("folder", "layer", "channel"),
        ("layer", "channel"),
        needs_image=False,
        folder="images",
    ),
    Action(
        DISSECT,
        "Dissect",
        "Dissect",
        "Which channels detect what is labelled?",
        DissectOptions,
        job.dissect,
        ("layer", "concepts"),
        ("layer",),
    ),
    Action(
        BIAS,
        "Bias",
        "Measure bias",
        "Does shape or texture decide?",
        BiasOptions,
        job.bias,
        ("folder",),
        needs_image=False,
        folder="images named SHAPE1-TEXTURE1.png, such as cat3-elephant1.png",
    ),
    Action(
        CONTROLS,
        "Bias",
        "Measure accuracy",
        "What do blur, noise, scrambling and attacks cost?",
        BiasOptions,
        job.controls,
        ("folder",),
        needs_image=False,
        folder="a folder of images for each class",
        unused=("rule",),
    ),
    Action(
        COPIES,
        "Bias",
        "Make copies",
        "What do networks make of this image when it is scrambled, blurred, noisy or gray?",
        CopyOptions,
        job.copies,
        ("mask",),
    ),
    Action(
        SIMPLICITY,
        "Bias",
        "Measure simplicity",
        "How smooth is what the network computes, and what does noise change?",
        SmoothnessOptions,
        job.simplicity,
    ),
    Action(
        REPORT,
        "Bias",
        "Write report",
        "What did adversarial training change, and do the paper's claims hold on this pair?",
        ReportOptions,
        job.report,
        ("layer", "data"),
        ("pair", "layer"),
        needs_image=False,
    ),
    Action(
        ATTACK,
        "Attack & ablate",
        "Attack",
        "Does a change that nobody sees break the model?",
        AttackOptions,
        job.attack,
        ("label", "radius"),
        ("label", "eps"),
    ),
    Action(
        ABLATE,
        "Attack & ablate",
        "Ablate",
        "What becomes of the prediction without some channels?",
        AblateOptions,
        job.ablate,
        ("layer",),
        ("layer",),
    ),
)
ACTIONS = {action.name: action for action in _ALL}
"""By name, in the order of the tabs."""


def actions_of(tab: str) -> list[Action]:
    """Return the actions of a tab."""
    return [action for action in ACTIONS.values() if action.tab == tab]
