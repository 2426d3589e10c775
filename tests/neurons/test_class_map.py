"""The class that leads at each place: of networks that end in a mean, and of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models import store
from napari_cvsuite.models.cnn import Classifier, build
from napari_cvsuite.models.subject import opened, see
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.neurons.class_map import ClassMap, position_logits, run, window_logits
from napari_cvsuite.neurons.class_map_options import ClassMapOptions

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
IMAGE = Image.from_array(PIXELS)
Install = Callable[[str], str]


@pytest.fixture
def install(home: Path, tmp_path: Path) -> Iterator[Install]:
    """Return what installs a network with random weights by its architecture."""

    def made(arch: str) -> str:
        torch.manual_seed(0)
        network = Classifier(build(arch, 3), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        save_file(network.state_dict(), tmp_path / f"tiny-{arch}.safetensors")
        given = {"classes": ["cat", "dog", "bird"]}
        return import_file(tmp_path / f"tiny-{arch}.safetensors", given).name

    yield made
    store.default_store().evict_all()


@pytest.mark.parametrize("arch", ["resnet-small", "googlenet-small"])
def test_positions_add_up_to_the_prediction(install: Install, arch: str) -> None:
    options = ClassMapOptions(model=install(arch))
    found = run(IMAGE, options, Context())
    assert found.measure == "positions" and "definition of this project" in found.words
    with opened(options, Context()) as subject:
        seen = see(IMAGE, subject, Context())
        logits = subject.logits(seen)
        each = position_logits(subject, seen.tensor(), logits)
        assert each is not None
        torch.testing.assert_close(each.mean((0, 1)), logits, rtol=1e-4, atol=1e-5)
        assert np.array_equal(found.numbers, each.argmax(dim=2))
        # By hand, at one place.
        model: Any = subject.network.model
        kept: list[torch.Tensor] = []
        hook = model.avgpool.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        subject.logits(seen)
        hook.remove()
        column = kept[0][0, :, 1, 2]
        by_hand = model.fc.weight.detach() @ column + model.fc.bias.detach()
        torch.testing.assert_close(each[1, 2], by_hand, rtol=1e-4, atol=1e-5)
    # The middle square of 40 pixels, in as many cells as the last layer has.
    assert found.grid.step == (40 / found.numbers.shape[0],) * 2
    assert found.grid.origin == ((found.grid.step[0] - 1) / 2, 10 + (found.grid.step[1] - 1) / 2)


def test_other_networks_look_through_windows(tiny_classifier: str) -> None:
    options = ClassMapOptions(model=tiny_classifier, cells=5)
    found = run(IMAGE, options, Context())
    assert found.measure == "windows" and found.numbers.shape == (5, 5)
    assert "definition of this project" in found.words and found.grid.step == (8.0, 8.0)
    # A single window, or that in the middle, is all that the network sees.
    one = run(IMAGE, replace(options, cells=1), Context())
    first = one.likely[0].name
    assert one.classes[one.numbers[0, 0]] == found.classes[found.numbers[2, 2]] == first


class _Corner(nn.Module):
    """Gives the pixel in the top left corner of each image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 0, 0]


@pytest.mark.parametrize("side", [6, 7])
def test_windows_are_where_they_should_be(side: int) -> None:
    ramp = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side).repeat(1, 3, 1, 1)
    found = window_logits(_Corner(), ramp, side, Context())[..., 0]
    # Middles in the middles of the pixels: a window begins half its side before that.
    starts = [round(cell + 0.5 - side / 2) for cell in range(side)]
    mirrored = [abs(start) for start in starts]
    expected = [[side * y + x for x in mirrored] for y in mirrored]
    assert found.tolist() == expected
    wide = window_logits(_Corner(), ramp, 64, Context())
    assert wide.shape == (64, 64, 3) and float(wide.max()) <= side * side - 1


def test_a_class_at_a_place(tiny_classifier: str) -> None:
    found = run(IMAGE, ClassMapOptions(model=tiny_classifier, cells=4), Context())
    numbers = np.arange(16).reshape(4, 4) % 3
    found = replace(found, numbers=numbers)
    # Cells of 10 pixels from column 10 on, edges at half pixels.
    assert found.class_at(0, 10) == "cat" and found.class_at(-0.4, 9.6) == "cat"
    assert found.class_at(0, 20) == "dog" and found.class_at(12, 12) == found.classes[4 % 3]
    assert found.class_at(39.4, 49.4) == found.classes[15 % 3]
    for outside in ((0, 9.4), (0, 49.6), (-0.6, 20), (39.6, 20)):
        assert found.class_at(*outside) is None
    assert found.labels.min() == 1 and np.array_equal(found.labels, numbers + 1)
    assert found.rows() == [
        {"class": "cat", "label": 1, "share": 6 / 16},
        {"class": "dog", "label": 2, "share": 5 / 16},
        {"class": "bird", "label": 3, "share": 5 / 16},
    ]
    json.dumps(plain(found), allow_nan=False)
    assert isinstance(found, ClassMap)


def test_windows_can_be_stopped(tiny_classifier: str) -> None:
    token = CancelToken()
    told: list[Progress] = []

    def stop(one: Progress) -> None:
        told.append(one)
        if one.done:
            token.cancel()

    with pytest.raises(Cancelled):
        options = ClassMapOptions(model=tiny_classifier, cells=20)
        run(IMAGE, options, Context(token=token, on_progress=stop))
    assert [(one.done, one.total) for one in told] == [(0, 400), (16, 400)]


def test_a_network_without_positions_looks_through_windows(tiny_transformer: str) -> None:
    found = run(IMAGE, ClassMapOptions(model=tiny_transformer, cells=2), Context())
    assert found.measure == "windows" and found.numbers.shape == (2, 2)
