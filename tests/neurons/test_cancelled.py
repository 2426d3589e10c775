"""Cancelled jobs: no hook stays, nothing is in training mode, the image is as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.neurons import (
    class_map,
    copies,
    dissecting,
    dream,
    explain,
    favourites,
    mislead,
    options,
    silence,
    simplicity,
)
from napari_cvsuite.neurons.class_map_options import ClassMapOptions
from napari_cvsuite.neurons.copy_options import CopyOptions

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 48, 64), np.uint8)
LABELS = (PIXELS > 128).astype(np.uint8)
Job = Callable[[Image, str, Context], object]


def _saliency(method: str) -> Job:
    def job(image: Image, model: str, context: Context) -> object:
        chosen = options.SaliencyOptions(model=model, method=method, check=True)
        return explain.run(image, chosen, context)

    return job


def _dissect(image: Image, model: str, context: Context) -> object:
    pair = dissecting.Pair(image, (Image.from_array(LABELS),))
    return dissecting.run([pair], options.DissectOptions(model=model), context)


JOBS: dict[str, Job] = {
    **{f"saliency {one}": _saliency(one) for one in ("gradient", "guided", "deeplift", "gradcam")},
    "patches": lambda i, m, c: favourites.run([i], options.PatchOptions(model=m), c),
    "attack": lambda i, m, c: mislead.run(i, options.AttackOptions(model=m), c),
    "ablate": lambda i, m, c: silence.run(i, options.AblateOptions(model=m), c),
    "simplicity": lambda i, m, c: simplicity.run(i, options.SmoothnessOptions(model=m), c),
    "maximise": lambda i, m, c: dream.run(options.MaximiseOptions(model=m), c),
    "dissect": _dissect,
    "classes": lambda i, m, c: class_map.run(i, ClassMapOptions(model=m), c),
    "copies": lambda i, m, c: copies.run(i, CopyOptions(model=m), c),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_cancelled_job_leaves_its_network_as_it_was(
    name: str, tiny_classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[nn.Module] = []

    class Noted(Subject):
        def __init__(self, network: nn.Module, *others: Any) -> None:
            lent.append(network)
            super().__init__(network, *others)

    monkeypatch.setattr("napari_cvsuite.models.subject.Subject", Noted)
    token, met = CancelToken(), []

    def count(*_: object) -> None:
        met.append(1)
        if len(met) == 3:
            token.cancel()

    class Counting(Context):
        """Counts questions as well, as not every job tells of its steps."""

        def check(self) -> None:
            count()
            super().check()

    pixels = PIXELS.copy()
    with pytest.raises(Cancelled):
        context = Counting(token=token, on_progress=count)
        JOBS[name](Image.from_array(pixels), tiny_classifier, context)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert len(lent) == 1 and not default_store().in_use()
    for module in lent[0].modules():
        assert not module.training
        assert not (module._forward_hooks or module._forward_pre_hooks)
        assert not (module._backward_hooks or module._backward_pre_hooks)
