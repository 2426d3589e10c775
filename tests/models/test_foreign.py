"""Files of other networks are named, and what can be used instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_cvsuite.models.foreign import family
from napari_cvsuite.models.weights import WeightsError, import_file


def _keys(name: str) -> dict[str, Tensor]:
    """Return names and shapes of a network of torchvision."""
    from torchvision import models

    with torch.device("meta"):
        return models.get_model(name, weights=None).state_dict()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vgg11", "VGG"),
        ("squeezenet1_1", "SqueezeNet"),
        ("mobilenet_v2", "MobileNet"),
        ("mobilenet_v3_small", "MobileNet"),
        ("mnasnet0_5", "MNASNet"),
        ("densenet121", "DenseNet"),
        ("efficientnet_b0", "EfficientNet"),
        ("efficientnet_v2_s", "EfficientNet"),
        ("convnext_tiny", "ConvNeXt"),
        ("shufflenet_v2_x0_5", "ShuffleNet"),
        ("maxvit_t", "MaxViT"),
        ("wide_resnet50_2", "a wide ResNet"),
        ("resnext50_32x4d", "ResNeXt"),
    ],
)
def test_networks_of_torchvision_are_named(name: str, words: str) -> None:
    assert family(_keys(name)) == words


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet18", "resnet34", "resnet50", "resnet101", "vit_b_16", "swin_t"]
)
def test_networks_that_can_be_used_are_not(name: str) -> None:
    assert family(_keys(name)) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("swin_tiny_patch4_window7_224", "Swin transformer named as by its authors or timm"),
        ("convnext_atto", "ConvNeXt"),
        ("efficientnet_lite0", "EfficientNet"),
        ("regnety_002", ""),
    ],
)
def test_networks_of_timm_are_named(name: str, words: str) -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    with torch.device("meta"):
        found = family(timm.create_model(name, pretrained=False).state_dict())
    assert (words in found) if words else not found


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["vit.embeddings.cls_token", "classifier.weight"], "Hugging Face"),
        (["visual.proj", "logit_scale"], "CLIP"),
        (["image_encoder.patch_embed.proj.weight", "mask_decoder.iou.weight"], "Segment Anything"),
        (["trunk_output.block1.block1-0.f.a.0.weight", "fc.weight"], "RegNet"),
        (["Conv2d_1a_3x3.conv.weight", "fc.weight"], "Inception v3"),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], "a ResNet of another size"),
        (["body.0.weight", "last.weight"], r"not known by its names \(body.0.weight, last.weight;"),
        (["net.conv"], r"not known by its names \(net.conv; its last matrix gives 7 values\)"),
    ],
)
def test_the_file_and_what_can_be_used_are_named(
    tmp_path: Path, keys: list[str], words: str
) -> None:
    torch.save({key: torch.zeros(7, 4) for key in keys}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=words) as told:
        import_file(tmp_path / "w.pth")
    assert "QTSeg architecture" not in str(told.value)
    for part in ("AlexNet", "ResNet-18", "Swin", "timm or DeiT", "QTSeg for segmentation", "TOPIQ"):
        assert part in str(told.value)
