"""What the training of a classifier trains: the network, and the loss that it minimises."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models import cnn, vit
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.vit import VisionTransformer, ViTConfig
from napari_cvsuite.models.weights import WeightsError
from napari_cvsuite.training.classifier_options import ClassifierOptions
from napari_cvsuite.training.distil import Learner, Objective
from napari_cvsuite.training.given import given_classifier
from napari_cvsuite.training.labelled import Labelled
from napari_cvsuite.training.loop import LossTerms

__all__ = ["make_loss", "make_network", "undecayed"]


def make_network(options: ClassifierOptions, data: Labelled) -> Classifier:
    """Return the network to be trained, which normalises as the images ask for.

    Raises
    ------
    WeightsError, UnknownModelError
        The start is not to be had, or is another network.
    """
    torch.manual_seed(options.seed)
    mean, std = (
        [round(float(value) / 255, 4) for value in one]
        for one in (data.images.mean(axis=(0, 1, 2)), data.images.std(axis=(0, 1, 2)))
    )
    inner, std = _build(options, len(data.classes)), [max(s, 0.01) for s in std]
    made = Classifier(inner, mean, std)
    by_depth = options.distill != "none"
    if by_depth or options.teacher:
        made = Learner(inner, mean, std, by_depth)
    if options.start:
        _load_start(made, options, len(data.classes))
    network: Classifier = made.to(memory_format=torch.channels_last)
    return network


def _load_start(network: Classifier, options: ClassifierOptions, classes: int) -> None:
    own, given = network.state_dict(), given_classifier(options.start)[0]
    # Weights of paths can be learned for a network that was trained without them, and a head for
    # other classes has to be learned anew.
    kept = {k: v for k, v in own.items() if k.startswith("model.ensemble_scale.")}
    state = {**kept, **given.state_dict()}
    head = _head(network)
    kept = {k: v for k, v in own.items() if k in head and k in state}
    state |= {k: v for k, v in kept.items() if v.shape != state[k].shape}
    shapes, wanted = ({k: v.shape for k, v in one.items()} for one in (state, own))
    if shapes != wanted or _body(given.model) != _body(network.model):
        raise WeightsError(
            f"{options.start} is another network than {options.arch} with "
            f"{classes} classes; choose that of the file"
        )
    network.load_state_dict(state)


def _head(network: nn.Module) -> set[str]:
    """Return the keys of the layers that give the logits."""
    linear = [name for name, one in network.named_modules() if isinstance(one, nn.Linear)]
    second = [name for name in linear if name.endswith("heads.head_dist")]
    last = [name for name in linear if name not in second][-1]
    return {f"{name}.{part}" for name in (last, *second) for part in ("weight", "bias")}


def _body(model: nn.Module) -> ViTConfig | None:
    """Return what has to agree in two transformers besides the shapes of their weights.

    Paths may have no weights, classes differ, and so may the pixels of a patch behind a stem.
    """
    if not isinstance(model, VisionTransformer):
        return None
    config = model.config
    return replace(
        config,
        image_size=config.grid,
        patch_size=1,
        num_classes=1,
        stem=tuple((channels, 1) for channels, _ in config.stem),
        ensemble_scale="none",
        placement="final",
    )


def _build(options: ClassifierOptions, classes: int) -> nn.Module:
    if not options.is_transformer:
        return cnn.build(options.arch, classes)
    config = {
        **vit.SMALL[options.arch],
        "image_size": options.size,
        "patch_size": options.patch,
        "num_classes": classes,
        "stem": options.stem_layers(),
        "ensemble_scale": options.ensemble_scale,
        "placement": options.placement,
    }
    if options.layers:
        config["num_layers"] = options.layers
    return vit.build(config)


def make_loss(
    options: ClassifierOptions, data: Labelled, device: str
) -> Callable[[Any, Tensor], Tensor | LossTerms]:
    """Return the loss of what :func:`make_network` makes: a plain one, or one that distils.

    Raises
    ------
    WeightsError, UnknownModelError
        The teacher is not to be had.
    ValueError
        It knows other classes, or sees images of another size.
    """
    if options.distill == "none" and not options.teacher:
        return functools.partial(_loss, options.smoothing)
    teacher = _teacher(options, data).to(device) if options.teacher else None
    return Objective(
        smoothing=options.smoothing,
        temperature=options.temperature,
        logit_weight=options.logit_weight if options.distill in ("logit", "both") else 0.0,
        hidden_weight=options.hidden_weight if options.distill in ("hidden", "both") else 0.0,
        teacher=teacher,
        teacher_weight=options.teacher_weight,
        reduced=options.precision == "bfloat16",
    )


def _teacher(options: ClassifierOptions, data: Labelled) -> Classifier:
    made, card = given_classifier(options.teacher)
    # Files without a card have no names of classes.
    named = card.classes[0] != "class 0"
    if len(card.classes) != len(data.classes) or (named and card.classes != data.classes):
        raise ValueError(
            f"the teacher's classes are {_few(card.classes)}, but those of the images "
            f"{_few(data.classes)}; choose a teacher of the same classes"
        )
    side = made.model.config.image_size if isinstance(made.model, VisionTransformer) else 0
    if side not in (0, options.size):
        raise ValueError(f"the teacher sees images of {side} px; choose size {side}")
    return made.requires_grad_(False)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def undecayed(network: nn.Module) -> frozenset[str]:
    """Return the parameters that weight decay would harm, by name.

    These are biases, norms, embeddings and weights of paths.
    """
    kept = ("class_token", "pos_embedding", "ensemble_scale")
    named = network.named_parameters()
    return frozenset(
        name for name, value in named if value.ndim < 2 or any(one in name for one in kept)
    )


def _loss(smoothing: float, logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
