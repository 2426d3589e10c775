"""Classifiers by name, with normalisation inside: AlexNet, GoogLeNet, ResNets and small ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from napari_cvsuite.models import resnet
from napari_cvsuite.models.alexnet import AlexNet, SmallAlexNet
from napari_cvsuite.models.googlenet import BLOCKS, SMALL_BLOCKS, GoogLeNet, SmallGoogLeNet

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NETWORKS",
    "Classifier",
    "Normalize",
    "UnknownNetworkError",
    "build",
    "default_layers",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
    "resnet18": lambda n: resnet.classifier(resnet.BasicBlock, (2, 2, 2, 2), n),
    "resnet34": lambda n: resnet.classifier(resnet.BasicBlock, (3, 4, 6, 3), n),
    "resnet50": lambda n: resnet.classifier(resnet.Bottleneck, (3, 4, 6, 3), n),
    "resnet101": lambda n: resnet.classifier(resnet.Bottleneck, (3, 4, 23, 3), n),
    "resnet152": lambda n: resnet.classifier(resnet.Bottleneck, (3, 8, 36, 3), n),
    "alexnet-small": SmallAlexNet,
    "googlenet-small": SmallGoogLeNet,
    "resnet-small": resnet.small_classifier,
}
"""Networks of the package itself; all other names are asked of torchvision."""


class UnknownNetworkError(LookupError):
    """No classifier has this name; the message suggests near ones."""


class Normalize(nn.Module):
    """Subtract a mean and divide by a deviation, one a channel.

    Parameters
    ----------
    mean, std : sequence of float
    clamp : bool
        Limit the input to [0, 1] before, as networks of the robustness library do.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], clamp: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.clamp = clamp

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x 3 x H x W`` in [0, 1]."""
        x = x.clamp(0, 1) if self.clamp else x
        return (x - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)


class Classifier(nn.Module):
    """A network that takes images in [0, 1] and normalises them itself.

    So gradients, attack radii and total variation have one unit whatever the network. Its keys are
    those of RobustBench: ``normalize.mean``, ``normalize.std`` and ``model.*``.

    Parameters
    ----------
    model : nn.Module
        Maps normalised images to logits.
    mean, std : sequence of float
    clamp : bool
        See :class:`Normalize`.
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        clamp: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std, clamp)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x 3 x H x W`` in [0, 1] to logits ``B x K``."""
        out: Tensor = self.model(self.normalize(x))
        return out


def build(name: str, num_classes: int) -> nn.Module:
    """Return a classifier with torchvision's key names, in eval mode, weights at random.

    Parameters
    ----------
    name : str
        One of :data:`NETWORKS`, or of torchvision's classifiers. These load torch's compiler, so
        they are not for a window that is drawn by Mesa's software OpenGL.
    num_classes : int
        One or more.

    Raises
    ------
    UnknownNetworkError
        There is no classifier of that name.
    ValueError
        `num_classes` is below one.
    """
    if num_classes < 1:
        raise ValueError(f"a classifier needs one class or more, got {num_classes}")
    if name in NETWORKS:
        return NETWORKS[name](num_classes).eval()
    from torchvision import models

    if name not in models.list_models(module=models):
        known = [*NETWORKS, *models.list_models(module=models)]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(NETWORKS)}"
        raise UnknownNetworkError(f"there is no classifier called {name!r}; {hint}")
    made: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return made.eval()


def default_layers(model: nn.Module, prefix: str = "") -> list[str]:
    """Return the layers that are worth looking at, all after their ReLU, in order.

    Parameters
    ----------
    model : nn.Module
        A classifier of this package, or another, whose ReLU modules are taken then.
    prefix : str
        Put before each name, such as ``"model."``.
    """
    if isinstance(model, Classifier):
        return default_layers(model.model, f"{prefix}model.")
    if isinstance(model, (AlexNet, SmallAlexNet)):
        named = model.features.named_children()
        names = [f"features.{k}" for k, layer in named if isinstance(layer, nn.ReLU)]
    elif isinstance(model, GoogLeNet):
        names = ["conv1", "conv2", "conv3", *BLOCKS]
    elif isinstance(model, SmallGoogLeNet):
        names = ["conv1", "conv2", *SMALL_BLOCKS]
    elif isinstance(model, resnet.ResNet):
        names = ["relu", "layer1", "layer2", "layer3", "layer4"]
    else:
        names = [name for name, layer in model.named_modules() if isinstance(layer, nn.ReLU)]
    return [prefix + name for name in names]
