"""Backbones that return their maps at every scale, with the key names of published files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from napari_cvsuite.models.resnet import compact, resnet18, resnet50
from napari_cvsuite.models.swin import SwinBase

__all__ = ["BACKBONES", "Backbone", "make_backbone"]

COMPACT = (24, 32, 48, 64, 96)


@dataclass(frozen=True)
class Backbone:
    """How to make a backbone, and what it returns.

    Parameters
    ----------
    make : callable
    channels : tuple of int
        Of its maps, from shallow to deep.
    side : int
        The only side of images it takes; 0 takes any.
    """

    make: Callable[[], nn.Module]
    channels: tuple[int, ...]
    side: int = 0


BACKBONES = {
    "resnet50": Backbone(resnet50, (64, 256, 512, 1024, 2048)),
    "resnet18": Backbone(resnet18, (64, 64, 128, 256, 512)),
    # Narrow, for weights that ship with the package.
    "resnet10_compact": Backbone(lambda: compact(COMPACT), COMPACT),
    "swin_base_patch4_window12_384": Backbone(SwinBase, (256, 512, 1024, 1024), 384),
}
"""Backbones by the name that published files give them."""


def make_backbone(name: str) -> nn.Module:
    """Return a new backbone with random weights."""
    return BACKBONES[name].make()
