"""Layers and neurons that jobs are asked about."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.neurons.explain import run
from napari_cvsuite.neurons.options import SaliencyOptions


def test_a_network_without_layers_to_choose_from_says_so(tiny_transformer: str) -> None:
    image = Image.from_array(np.zeros((32, 32, 3), np.uint8))
    options = SaliencyOptions(model=tiny_transformer, method="gradcam")
    with pytest.raises(OptionError, match=f"{tiny_transformer} has no layer behind a ReLU.*grad"):
        run(image, options, Context())
