"""What jobs on paths look at, and what is none of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import CardError, UnknownModelError
from napari_cvsuite.models.subject import opened
from napari_cvsuite.paths.labelled_options import DepthOptions, LengthOptions
from napari_cvsuite.paths.options import JOBS, PathOptions
from napari_cvsuite.paths.report import ReportInputs
from napari_cvsuite.paths.subject import (
    LabelledInputs,
    OnlySharesError,
    Target,
    batches,
    labelled_images,
    model_opened,
    number_of,
    slices,
    target_of,
    transformer,
)
from tests.paths.plain import stack


def test_a_cnn_is_refused_and_transformers_are_named(
    tiny_classifier: str, tiny_transformer: str
) -> None:
    with (
        pytest.raises(CardError, match=f"SmallAlexNet.*vision transformer.*{tiny_transformer}"),
        opened(PathOptions(model=tiny_classifier), Context()) as subject,
    ):
        transformer(subject)


def test_of_a_swin_only_shares_are_known(
    tiny_swin: str, tiny_transformer: str, animals: Path, tmp_path: Path
) -> None:
    labelled, image = LabelledInputs(animals), stack()
    inputs = {
        "whatif": image,
        "stack": image,
        "map": image,
        "depth": image,
        "depth_accuracy": labelled,
        "influence": labelled,
        "prune": labelled,
        "scale": labelled,
        "fold": tmp_path / "folded",
        "frequency": [image],
        "lengths": None,
        "report": ReportInputs(animals),
    }
    # A study trains networks of its own.
    assert set(JOBS) == {*inputs, "contributions", "study"}
    for name, given in inputs.items():
        spec = JOBS[name]
        changes = {"off": "msa_0"} if name == "stack" else {}
        options = spec.load_options()(model=tiny_swin, **changes)
        arguments = [] if given is None else [given]
        words = f"{tiny_swin} is a Swin.*paths contributions gives.*choose.*{tiny_transformer}"
        with pytest.raises(OnlySharesError, match=words):
            spec.load_run()(*arguments, options, Context())
    assert not (tmp_path / "folded").exists()


def test_models_that_are_not_there(tiny_transformer: str) -> None:
    with (
        pytest.raises(UnknownModelError, match=f"Did you mean '{tiny_transformer}'"),
        model_opened(LengthOptions(model="tiny-vid"), Context()),
    ):
        pass


def test_a_target_is_a_class_or_a_difference(tiny_transformer: str) -> None:
    values = torch.tensor([[1.0, 5.0, 2.0]])
    with opened(PathOptions(model=tiny_transformer), Context()) as subject:
        predicted = target_of("", subject, values[0])
        assert predicted == Target(1, None, "dog") and predicted.of(values).tolist() == [5.0]
        against = target_of("dog-2", subject, values[0])
        assert against.name == "dog - bird" and against.of(values).tolist() == [3.0]
        assert against.chosen(values[:, list(against.classes)]).tolist() == [3.0]
        with pytest.raises(OptionError, match="no class 'cow'; its classes are cat, dog, bird"):
            target_of("cow", subject, values[0])


def test_paths_have_names() -> None:
    names = ("embed", "msa_0", "ffn_0")
    assert number_of("ffn_0", names) == 2
    with pytest.raises(OptionError, match="no path 'msa_1'; the network has embed and msa_0 to"):
        number_of("msa_1", names)


def test_labelled_images_are_read_for_the_network(tiny_transformer: str, animals: Path) -> None:
    options = DepthOptions(model=tiny_transformer, limit=7)
    with model_opened(options, Context()) as subject:
        data = labelled_images(LabelledInputs(animals), options, subject, Context())
        assert data.images.shape == (7, 32, 32, 3) and data.classes == ("cat", "dog", "bird")
        assert set(data.labels) == {0, 1, 2}
        found = list(batches(data, 3, subject, Context()))
        assert [len(x) for x, _ in found] == [3, 3, 1]
        # Mean 0.5 and deviation 0.25 of each channel, from [0, 1].
        first = torch.from_numpy(data.images[0].transpose(2, 0, 1) / 255).float()
        assert torch.allclose(found[0][0][0], (first - 0.5) / 0.25, atol=1e-6)


def test_folders_that_cannot_be_used(
    tiny_transformer: str, install_transformer: Callable[..., str], animals: Path, tmp_path: Path
) -> None:
    options = DepthOptions(model=tiny_transformer)
    (tmp_path / "empty").mkdir()
    with model_opened(options, Context()) as subject:
        with pytest.raises(ValueError, match="fewer than two classes; put each class into"):
            labelled_images(LabelledInputs(tmp_path / "empty"), options, subject, Context())
        (animals / "cat").rename(animals / "cow")
        with pytest.raises(ValueError, match="labelled 'cow', but the classes are cat, dog, bird"):
            labelled_images(LabelledInputs(animals), options, subject, Context())
    one = DepthOptions(model=install_transformer("one-vit", num_classes=1))
    with model_opened(one, Context()) as subject, pytest.raises(CardError, match="has one class"):
        labelled_images(LabelledInputs(animals), one, subject, Context())


def test_slices_of_files_and_stacks_are_seen_up_to_a_limit(
    tiny_transformer: str, animals: Path, tmp_path: Path
) -> None:
    path = animals / "cat" / "00.png"
    with opened(PathOptions(model=tiny_transformer), Context()) as subject:
        found = list(slices([path, stack()], subject, 3, Context()))
        assert [name for name, _ in found] == ["00", "stack", "stack"]
        assert [seen.index for _, seen in found[1:]] == [{"z": 0}, {"z": 1}]
        with pytest.raises(ImageError):
            list(slices([tmp_path / "nothing.png"], subject, 3, Context()))
