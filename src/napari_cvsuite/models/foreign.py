"""What a checkpoint is that no network of the package can be made of, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from napari_cvsuite.models.weights import WeightsError

__all__ = ["family", "refuse"]

# In this order: names of later families occur in earlier ones, too.
_FAMILIES = (
    (
        "a Swin transformer named as by its authors or timm; torchvision's names can be used",
        r"layers\.0\.blocks\.0\.attn\.(relative_position|cpb_mlp|logit_scale)",
    ),
    (
        "a transformer named as by Hugging Face's library; torchvision's or timm's names can be "
        "used",
        r"(\w+\.)?(embeddings|patch_embeddings)\.(patch_embeddings|projection|cls_token)",
    ),
    ("CLIP", r"(visual|text_model|vision_model)\."),
    ("Segment Anything", r"image_encoder\.(patch_embed|blocks|trunk|neck)\."),
    ("MaxViT", r"blocks\.0\.layers\.0\.layers\.MBconv\."),
    ("EfficientNet", r"features\.1\.0\.block\.0\.0\.|conv_stem\."),
    ("ConvNeXt", r"features\.1\.0\.(block\.0\.|layer_scale)|stages\.0\.blocks\.0\.(conv_dw|gamma)"),
    ("MobileNet", r"features\.1\.(block|conv)\.0\.0\."),
    ("MNASNet", r"layers\.8\.0\.layers\.0\."),
    ("DenseNet", r"features\.denseblock1\."),
    ("SqueezeNet", r"features\.\d+\.squeeze\."),
    ("ShuffleNet", r"stage2\.0\.branch1\."),
    ("RegNet", r"trunk_output\.block1\."),
    ("Inception v3", r"Conv2d_1a_3x3\."),
)
_BOTTLENECK = 64
"""Width of the first bottlenecks of plain ResNets."""
_CAN = (
    "What can be imported: as classifiers AlexNet, GoogLeNet, ResNet-18, -34, -50, -101, -152 and "
    "Swin transformers by torchvision's names, and vision transformers by those of torchvision, "
    "timm or DeiT; QTSeg for segmentation; TOPIQ for quality; and what own training runs wrote."
)


def family(state: Mapping[str, Tensor]) -> str:
    """Return which known network a state dict is of that cannot be used; empty for none."""
    for name, pattern in _FAMILIES:
        if any(re.match(pattern, key) for key in state):
            return name
    first, last = state.get("features.0.weight"), state.get("classifier.6.weight")
    # AlexNet begins with windows of 11 pixels.
    if first is not None and last is not None and first.ndim == 4 and first.shape[-1] == 3:
        return "VGG"
    middle = state.get("layer1.0.conv2.weight")
    if "layer1.0.conv3.weight" in state and middle is not None and middle.ndim == 4:
        if middle.shape[0] != middle.shape[1]:
            return "ResNeXt"
        if middle.shape[0] != _BOTTLENECK:
            return "a wide ResNet"
    return ""


def refuse(state: Mapping[str, Tensor]) -> WeightsError:
    """Return the error for a file of another network: what it is, and what can be used."""
    matrices = [value.shape[0] for value in state.values() if value.ndim == 2]
    gives = f"; its last matrix gives {matrices[-1]} values" if matrices else ""
    first = ", ".join(list(state)[:5]) or "none"
    what = family(state) or (
        "a ResNet of another size"
        if "layer1.0.conv1.weight" in state
        else f"a network that is not known by its names ({first}{gives})"
    )
    return WeightsError(f"The file is not for a network of the package, but for {what}. {_CAN}")
