"""The Quality dock: maps, comparisons and references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from docks import Wait, opened, problem, run
from napari.layers import Layer

import napari_cvsuite
from napari_cvsuite.widgets.quality import QualityDock
from napari_cvsuite.widgets.quality_inputs import Many

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 255, (4, 48, 64), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_quality_model: str, tiny_comparing_model: str) -> Iterator[QualityDock]:
    yield from opened(QualityDock(viewer), tiny_quality_model)


def _rows(dock: QualityDock) -> list[dict[str, Any]]:
    return dock.results.model.rows


def test_map_lies_over_its_image(
    dock: QualityDock, viewer: Any, wait_for: Wait, tiny_quality_model: str
) -> None:
    layer = viewer.add_image(
        RNG.integers(0, 255, (2, 100, 140), "u1"), scale=(5, 0.5, 0.5), translate=(1, 2, 3)
    )
    dock.inputs.set_mode("Map")
    assert dock.run_bar.button.text() == "Map"
    dock.inputs.form.set_values({"window": 48, "step": 32, "attention": True})
    said = run(dock, wait_for)
    assert "Local scores" in said and "Intensity: type uint8" in said
    other = napari_cvsuite.quality_map(
        layer.data, model=tiny_quality_model, device="cpu", window=48, step=32, attention=True
    )
    # The map of the scores lies on top of what shows where the network looked.
    added = [one for one in reversed(viewer.layers) if one is not layer]
    assert viewer.layers.selection.active is added[0]
    assert len(added) == 1 + len(other.attention)
    assert [one.visible for one in added] == [True] + [False] * len(other.attention)
    np.testing.assert_allclose(added[0].data, other.scores, atol=1e-6)
    for one, grid in zip(added, (other.grid, *other.attention_grids), strict=True):
        for index in ((0, 0, 0), (1, 1, 1)):
            stack, y, x = index
            at = (
                stack,
                *(o + s * i for o, s, i in zip(grid.origin, grid.step, (y, x), strict=True)),
            )
            np.testing.assert_allclose(one.data_to_world(index), layer.data_to_world(at))
    # What we computed is nothing to judge.
    assert [dock.inputs.image.itemData(i) for i in range(dock.inputs.image.count())] == [layer]


def test_map_of_a_turned_part_cut_along_y(dock: QualityDock, viewer: Any, wait_for: Wait) -> None:
    layer = viewer.add_image(
        RNG.random((40, 3, 60), "f4"), rotate=np.diag([1.0, -1.0, -1.0]), shear=(0, 0.2, 0.1)
    )
    dock.inputs.set_mode("Map")
    dock.inputs.form.set_values({"window": 32, "step": 8, "axis": "y"})
    run(dock, wait_for)
    found = viewer.layers[-1]
    assert found.data.shape == (2, 3, 5), dock.run_bar.message.text()
    np.testing.assert_allclose(
        found.data_to_world((1, 2, 1)), layer.data_to_world((15.5 + 8, 2, 15.5 + 7))
    )


def test_compare_ranks_and_shows_differences(
    dock: QualityDock, viewer: Any, wait_for: Wait, tiny_comparing_model: str
) -> None:
    reference = viewer.add_image(STACK, name="reference")
    versions: list[Layer] = []
    for spoilt in (1, 30):
        noisy = np.clip(STACK + RNG.normal(0, spoilt, STACK.shape), 0, 255).astype("u1")
        versions.append(viewer.add_image(noisy, name=f"noise {spoilt}", scale=(1, 2, 2)))
    dock.inputs.set_mode("Compare")
    dock.inputs.model.choose(tiny_comparing_model)
    assert "choose the reference" in problem(dock)
    dock.inputs.reference.choose(reference)
    said = run(dock, wait_for)
    assert [row["rank"] for row in _rows(dock)] == [1, 2] and said.startswith("Best: noise")
    assert {row["layer"] for row in _rows(dock)} == {"noise 1", "noise 30"}
    differences = [one for one in viewer.layers if one.name.endswith("difference")]
    assert len(differences) == 2 and not any(one.visible for one in differences)
    worse = next(one for one in differences if one.name.startswith("noise 30"))
    np.testing.assert_allclose(worse.data, np.abs(versions[1].data / 255 - STACK / 255), atol=1e-5)
    np.testing.assert_allclose(worse.scale, (1, 2, 2))
    dock.results.table.row_chosen.emit(_rows(dock)[1])
    shown = [one.visible for one in dock._differences]
    assert shown == [False, True]
    assert dock.results.plot.length == 8
    versions[1].visible = False
    assert "two image layers" in problem(dock)
    viewer.add_image(np.zeros((48, 64)), name="other size")
    assert "another size" in problem(dock)
    viewer.layers.selection = {versions[0], versions[1]}
    dock.inputs.image.choose(Many.SELECTED)
    assert dock.run_bar.button.isEnabled()


def test_references_that_do_not_fit_are_told_before(
    dock: QualityDock, viewer: Any, wait_for: Wait, tiny_comparing_model: str
) -> None:
    image = viewer.add_image(np.kron(STACK[0], np.ones((2, 2), "u1")), name="image")
    small = viewer.add_image(STACK[1], name="small")
    dock.inputs.image.choose(image)
    assert dock.inputs.reference.isHidden()
    dock.inputs.model.choose(tiny_comparing_model)
    assert not dock.inputs.reference.isHidden()
    dock.inputs.reference.choose(image)
    assert "itself" in problem(dock)
    dock.inputs.reference.choose(small)
    assert "128 x 96 pixels, the reference 64 x 48" in problem(dock)
    assert dock.inputs.reference.styleSheet() and not dock.inputs.image.styleSheet()
    dock.inputs.form.set_values({"fit_reference": True})
    assert dock.run_bar.button.isEnabled() and not dock.inputs.reference.styleSheet()
    run(dock, wait_for)
    assert len(_rows(dock)) == 1, dock.run_bar.message.text()
    dock.inputs.reference.choose(viewer.add_image(STACK[:3], name="three"))
    assert "3 slices" in problem(dock)


def test_each_slice_meets_its_own_reference(
    dock: QualityDock, viewer: Any, wait_for: Wait, tiny_comparing_model: str
) -> None:
    image = viewer.add_image(STACK[::-1].copy())
    reference = viewer.add_image(STACK)
    dock.inputs.image.choose(image)
    dock.inputs.model.choose(tiny_comparing_model)
    dock.inputs.reference.choose(reference)
    dock.inputs.slices.setCurrentText("current slice")
    viewer.dims.set_current_step(0, 1)
    run(dock, wait_for)
    other = napari_cvsuite.score_quality(
        STACK[2], STACK[1], model=tiny_comparing_model, device="cpu"
    )
    assert _rows(dock)[0]["score"] == pytest.approx(other.rows[0].score)
