"""Receptive fields against arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_cvsuite.models import cnn
from napari_cvsuite.neurons.fields import ReceptiveField, receptive_field


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 5),
            st.integers(1, 3),
            st.integers(0, 2),
            st.sampled_from(["conv", "max"]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_the_field_of_a_path_is_its_arithmetic(steps: list[tuple[int, int, int, str]]) -> None:
    layers: list[nn.Module] = []
    size, stride, start, channels = 1, 1, 0, 3
    for kernel, step, pad, kind in steps:
        # Max pooling takes padding up to half its window.
        pad = min(pad, kernel // 2)
        if kind == "conv":
            layers += [nn.Conv2d(channels, 2, kernel, step, pad), nn.ReLU(inplace=True)]
            channels = 2
        else:
            layers.append(nn.MaxPool2d(kernel, step, pad))
        start -= pad * stride
        size += (kernel - 1) * stride
        stride *= step
    network = nn.Sequential(*layers).eval()
    want = ReceptiveField((size,) * 2, (stride,) * 2, (start,) * 2)
    assert receptive_field(network, str(len(layers) - 1)) == want


def test_rows_and_columns_and_dilation_are_apart() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(2, 1)))
    assert receptive_field(network, "0") == ReceptiveField((5, 5), (2, 1), (0, -2))
    # One cell only at the first length that is tried.
    sparse = nn.Sequential(nn.Conv2d(3, 1, 1, stride=64))
    assert receptive_field(sparse, "0") == ReceptiveField((1, 1), (64, 64), (0, 0))


def test_the_field_of_alexnet_and_of_a_residual_network() -> None:
    # 11 + 4 (3 - 1) = 19, + 8 (5 - 1) = 51, and so on up to 195 at stride 32 after pooling.
    alexnet = nn.Sequential(
        nn.Conv2d(3, 2, 11, 4, 2),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(2, 2, 5, 1, 2),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(2, 2, 3, 1, 1),
        nn.Conv2d(2, 2, 3, 1, 1),
        nn.Conv2d(2, 2, 3, 1, 1),
        nn.MaxPool2d(3, 2),
    )
    found = receptive_field(alexnet, "7")
    assert (found.size, found.stride) == ((195, 195), (32, 32))
    # 3, then per stage 3 x 3 twice, of which the first has the stage's stride.
    small = cnn.build("resnet-small", 5)
    found = receptive_field(small, "layer2")
    assert found == ReceptiveField((13, 13), (2, 2), (-6, -6))


def test_a_field_without_end_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ValueError, match="no end within 4096 pixels"):
        receptive_field(network, "1")
    with pytest.raises(ValueError, match="does not run on 64 x 64 pixels"):
        receptive_field(nn.Sequential(nn.Conv2d(3, 2, 99)), "0")
    assert not any(module._forward_hooks for module in network.modules())


def test_boxes_are_clipped_to_the_image() -> None:
    field = ReceptiveField((7, 7), (2, 2), (-3, -3))
    assert field.box((0, 3), (10, 12)) == (0, 3, 4, 10)
    assert field.box((4, 5), (10, 12)) == (5, 7, 10, 12)
