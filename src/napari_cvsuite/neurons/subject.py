"""What a job looks at in a classifier: a class, a layer or a neuron."""

from __future__ import annotations

from torch import Tensor

from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.subject import Subject, class_pair
from napari_cvsuite.neurons.target import Target

__all__ = ["layer_name", "target_of"]


def target_of(text: str, subject: Subject, logits: Tensor) -> tuple[Target, str]:
    """Return what is to be explained, and its name.

    Parameters
    ----------
    text : str
        See :class:`napari_cvsuite.neurons.options.TargetOptions`.
    subject : Subject
    logits : Tensor, shape (K,)
        Of the image, for the predicted class.

    Raises
    ------
    OptionError
        The text names no class or neuron.
    """
    card = subject.card
    if not text:
        best = int(logits.argmax())
        return Target(class_index=best), card.classes[best]
    if ":" in text and text not in card.classes:
        return _neuron(text, subject), text
    (one, other), name = class_pair(text, card)
    return Target(one, other), name


def _neuron(text: str, subject: Subject) -> Target:
    layer, _, rest = text.partition(":")
    channel, _, place = rest.partition(":")
    position = [part.strip() for part in place.split(",")] if place else []
    if not channel.isdecimal() or (place and [p.isdecimal() for p in position] != [True, True]):
        raise OptionError(
            f"a neuron is LAYER:CHANNEL or LAYER:CHANNEL:Y,X, such as layer4:12:3,3; got {text!r}"
        )
    where = (int(position[0]), int(position[1])) if place else None
    return Target(layer=layer_name(layer, subject), channel=int(channel), position=where)


def layer_name(asked: str, subject: Subject) -> str:
    """Return the name of a layer in the network; empty takes the last to choose from.

    Raises
    ------
    OptionError
        There is no such layer, or none to choose from.
    """
    layers = subject.layers()
    if not asked and not layers:
        raise OptionError(
            f"{subject.card.name} has no layer behind a ReLU, as convolutional networks have; "
            "choose what needs no layer, such as the method gradient"
        )
    if not asked:
        return layers[-1]
    names = dict(subject.network.named_modules())
    # Names are those of the network itself; the normalisation around it is ours.
    for name in (asked, f"model.{asked}"):
        if name in names and asked:
            return name
    raise OptionError(
        f"{subject.card.name} has no layer {asked!r}; choose one of "
        f"{', '.join(name.removeprefix('model.') for name in layers)}"
    )
