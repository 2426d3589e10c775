"""Memory that runs out during prediction, played by a network and a store of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.ladder import MemoryExhausted
from napari_cvsuite.models.catalog import Catalogue, InputSpec
from napari_cvsuite.segmentation import predict, predictor
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.predict import SegmentResult, run

PICTURE = np.random.default_rng(0).integers(0, 255, (300, 280), dtype=np.uint8)


class Greedy(nn.Module):
    """Class 1 where the image is bright; out of memory above a number of pixels."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[2] * x.shape[3] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return torch.stack([-x[:, 0], x[:, 0]], dim=1), x


class Store:
    """Lends :class:`Greedy`; a card has no room at all."""

    def __init__(self, most: int) -> None:
        self.most, self.asked, self.released = most, list[tuple[str, str]](), 0

    @contextmanager
    def lease(self, card: object, device: str, precision: str) -> Iterator[nn.Module]:
        self.asked.append((device, precision))
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield Greedy(self.most)

    def evict_all(self) -> None:
        self.released += 1


def _run(
    monkeypatch: pytest.MonkeyPatch, store: Store, array: np.ndarray, **options: object
) -> tuple[SegmentResult, list[str]]:
    warned: list[str] = []
    monkeypatch.setattr(predictor, "default_store", lambda: store)
    # At the scale of the image, so that the sizes in the tests are those the network sees.
    card = replace(Catalogue().get("qtseg-nuclei"), input=InputSpec(tile=256))
    monkeypatch.setattr(predict, "Catalogue", lambda: SimpleNamespace(get=lambda name: card))
    context = Context(on_warning=warned.append)
    chosen = PredictOptions(**{"min_size": 0, **options})
    return run(Image.from_array(array), chosen, context), warned


@pytest.mark.parametrize(
    ("most", "tile", "steps"),
    [
        (10**6, 0, []),
        # 300 x 280 is seen whole by a model of tile 256; half of 320 is the first real tile.
        (200 * 200, 0, ["tile 320 -> 160"]),
        (70 * 70, 0, ["tile 320 -> 160", "tile 160 -> 64"]),
        (100 * 100, 128, ["tile 128 -> 64"]),
    ],
)
def test_smaller_tiles_give_the_same_result(
    monkeypatch: pytest.MonkeyPatch, most: int, tile: int, steps: list[str]
) -> None:
    store = Store(most)
    result, warned = _run(monkeypatch, store, PICTURE, tile=tile)
    assert result.provenance["ladder"] == steps
    assert store.released == len(steps) == len(warned)
    middle = (int(PICTURE.max()) + int(PICTURE.min())) / 2
    assert np.array_equal(result.classes, middle < PICTURE)
    assert all(step in said for step, said in zip(steps, warned, strict=True))


def test_later_planes_start_where_the_first_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(200 * 200)
    result, warned = _run(monkeypatch, store, np.stack([PICTURE] * 3))
    assert len(warned) == 1 and len(store.asked) == 4
    assert np.array_equal(result.classes[0], result.classes[2])


@pytest.mark.parametrize(
    ("precision", "asked"),
    [
        ("auto", ["float32"] * 3 + ["float16", "cpu float32"]),
        ("float32", ["float32"] * 3 + ["cpu float32"]),
    ],
)
def test_a_card_without_room_ends_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, precision: str, asked: list[str]
) -> None:
    monkeypatch.setattr(predictor, "choose_device", lambda _: "cuda:0")
    monkeypatch.setattr(
        predictor,
        "choose_precision",
        lambda device, wanted: "float32" if wanted == "auto" else wanted,
    )
    store = Store(10**6)
    result, _ = _run(monkeypatch, store, PICTURE, precision=precision)
    assert [f"cpu {p}" if d == "cpu" else p for d, p in store.asked] == asked
    assert result.provenance["device"] == "cpu"
    assert result.provenance["ladder"][-1] == "cuda:0 -> cpu"
    assert result.provenance["precision"] == "float32"


def test_the_bottom_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryExhausted, match=r"tile 320 -> 160.*smaller image"):
        _run(monkeypatch, Store(0), PICTURE)
