"""The instruments at work on real images, for demonstrations and pictures."""

from __future__ import annotations

import pytest

from napari_cvsuite import demos


def test_the_picture_of_pruning_needs_labelled_images() -> None:
    with pytest.raises(ValueError, match="a folder of images for each class"):
        demos.paths("pruning")


def test_demo_images_and_models_ship_with_the_package() -> None:
    from napari_cvsuite.models.catalog import builtin_folder
    from napari_cvsuite.segmentation.demo import DEMOS

    for demo in DEMOS.values():
        assert demo.path.is_file()
        assert (builtin_folder() / f"{demo.options.model}.safetensors").is_file()
