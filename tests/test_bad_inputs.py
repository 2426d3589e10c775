"""One matrix of inputs, odd and bad, that every job passes.

Each case gives a result of known shape and type, or an error of a named class whose text says
what to do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Picture
from torch import nn

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.models.catalog import Catalogue, user_folder
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.weights import write_card
from napari_cvsuite.neurons.explain import run as explain
from napari_cvsuite.neurons.options import SaliencyOptions
from napari_cvsuite.paths.contributions import run as contributions
from napari_cvsuite.paths.options import ContributionOptions
from napari_cvsuite.quality.files import score_files
from napari_cvsuite.quality.map import run as quality_map
from napari_cvsuite.quality.options import MapOptions, ScoreOptions
from napari_cvsuite.quality.options import TrainOptions as QualityTrainOptions
from napari_cvsuite.quality.score import run as score
from napari_cvsuite.quality.train import TrainInputs as QualityTrainInputs
from napari_cvsuite.quality.train import run as train_quality
from napari_cvsuite.segmentation.corrected import Corrected
from napari_cvsuite.segmentation.evaluate import EvaluateInputs, evaluate
from napari_cvsuite.segmentation.files import segment_files
from napari_cvsuite.segmentation.options import PredictOptions, RetrainOptions, TrainOptions
from napari_cvsuite.segmentation.predict import run as predict
from napari_cvsuite.segmentation.retrain import run as retrain
from napari_cvsuite.segmentation.train import TrainInputs
from napari_cvsuite.segmentation.train import run as train

RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 100, (40, 48))
DTYPES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

OK = "ok"
Expected = str | tuple[str, str]


@dataclass
class World:
    """What a job works on; a case spoils a part of it."""

    folder: Path
    model: str
    array: Any = field(default_factory=lambda: PLANE.astype("u1"))
    axes: str | None = None
    mask: Any = None
    out: Path = Path()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        axes = self.axes or "".join("tzyx"[-np.ndim(self.array) :])
        sizes = dict(zip(axes, np.shape(self.array), strict=False))
        return sizes.get("y", 4), sizes.get("x", 4)

    def write(self) -> Path:
        """Write the image and its mask; return the image's file."""
        for name in ("images", "masks"):
            (self.folder / name).mkdir(exist_ok=True)
        path = self.folder / "images" / ("a.npy" if self.axes is None else "a.tif")
        if self.axes is None:
            np.save(path, np.asarray(self.array))
        else:
            axes = self.axes.upper().replace("YXC", "YXS")
            kind = "rgb" if axes == "YXS" and np.shape(self.array)[-1] > 2 else "minisblack"
            tifffile.imwrite(path, self.array, photometric=kind, metadata={"axes": axes})
        mask = np.zeros(self.shape, "u1") if self.mask is None else self.mask
        if 0 not in mask.shape:
            Picture.fromarray(mask).save(self.folder / "masks/a.png")
        else:
            np.save(self.folder / "masks/a.npy", mask)
        return path


def _predict(world: World) -> None:
    image = Image.from_array(world.array, axes=world.axes)
    result = predict(image, PredictOptions(model=world.model), Context())
    shape = tuple(image.size(axis) for axis in image.axes if axis != "c")
    assert np.shape(result.classes) == np.shape(result.objects) == shape
    assert (result.classes.dtype, result.objects.dtype) == (np.uint8, np.int32)
    assert np.shape(result.probabilities) == (*shape[:-2], 2, *shape[-2:])
    assert np.isfinite(np.asarray(result.probabilities)).all()


class Reported(Exception):
    """An error that the summary of a folder names."""


def _files(world: World) -> None:
    path = world.folder / "images/a.npy"
    path = path if path.exists() else path.with_suffix(".tif")
    options = PredictOptions(model=world.model)
    summary = segment_files([path], world.out, options, Context())
    assert len(summary["inputs"]) == 1
    if summary["failed"]:
        raise Reported(summary["inputs"][0]["error"])
    labels = tifffile.imread(world.out / "a.labels.tif")
    image = Image.from_array(np.asarray(world.array), axes=world.axes)
    # A TIFF series drops axes of length one.
    shape = tuple(image.size(axis) for axis in image.axes if axis != "c")
    assert labels.size == np.prod(shape) and labels.dtype == np.uint8


def _train(world: World) -> None:
    folder = world.folder
    start = world.model if world.model != "tiny" else ""
    options = TrainOptions(width=4, size=64, batch=1, epochs=1, start=start)
    inputs = TrainInputs(folder / "images", folder / "masks", world.out, ("none",))
    result = train(inputs, options, Context())
    assert result.trained_on == 1 and result.model is not None
    weights = torch.load(world.out / "best.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())


def _retrain(world: World) -> None:
    image = np.tile(PLANE, (4, 4)).astype("u1")
    corrected = Corrected(Image.from_array(image), image > 50)
    found = retrain([corrected], RetrainOptions(model=world.model, epochs=1), Context())
    assert found.n == 1 and 0 <= found.dice_after <= 1


def _evaluate(world: World) -> None:
    inputs = EvaluateInputs(world.folder / "images", world.folder / "masks")
    report = evaluate(inputs, world.model, Context())
    assert list(report.groups) == ["all"] and report.groups["all"].n == 1
    assert 0.0 <= report.groups["all"].dice <= 1.0


def _score(world: World) -> None:
    image = Image.from_array(world.array, axes=world.axes)
    result = score(image, ScoreOptions(model=world.model), Context())
    assert len(result.rows) == image.n_planes and result.provenance["window"]
    assert all(np.isfinite(row.score) and 0 <= row.confidence <= 1 for row in result.rows)


def _map(world: World) -> None:
    image = Image.from_array(world.array, axes=world.axes)
    found = quality_map(image, MapOptions(model=world.model, window=32, step=8), Context())
    stack = tuple(image.size(axis) for axis in image.axes if axis not in "yxc")
    assert found.scores.shape == (*stack, 2, 3) and np.isfinite(found.scores).all()


def _score_files(world: World) -> None:
    path = world.folder / "images/a.npy"
    path = path if path.exists() else path.with_suffix(".tif")
    options = MapOptions(model=world.model, window=32)
    found = score_files([path], options, Context(), maps=world.out)
    if found["failures"]:
        raise Reported(found["failures"][0]["error"])
    assert (world.out / "a.quality.tif").is_file()


def _explain(world: World) -> None:
    image = Image.from_array(world.array, axes=world.axes)
    found = explain(image, SaliencyOptions(model=world.model), Context())
    assert found.values.shape == (32, 32) and np.isfinite(found.values).all()
    assert found.provenance["window"] and len(found.likely) == 3


def _split(world: World) -> None:
    image = Image.from_array(world.array, axes=world.axes)
    found = contributions(image, ContributionOptions(model=world.model), Context())
    assert found.shares.shape == (6, 3) and found.residual <= 5e-6
    assert found.provenance["window"] and len(found.likely) == 3


def _train_quality(world: World) -> None:
    options = QualityTrainOptions(series=20, size=176, width=8, heads=2, gate=2, epochs=1)
    result = train_quality(
        QualityTrainInputs(world.folder / "images", world.out, ("none",)), options, Context()
    )
    assert result.model is not None


JOBS: dict[str, Callable[[World], None]] = {
    "predict": _predict,
    "files": _files,
    "train": _train,
    "evaluate": _evaluate,
}
QUALITY: dict[str, Callable[[World], None]] = {
    "score": _score,
    "map": _map,
    "score files": _score_files,
    "train quality": _train_quality,
}
NEURONS: dict[str, Callable[[World], None]] = {"explain": _explain}
PATHS: dict[str, Callable[[World], None]] = {"split": _split}
RETRAIN: dict[str, Callable[[World], None]] = {"retrain": _retrain}
"""Which images it takes is tested beside it, since it needs larger ones."""
FROM_DISK = ("files", "train", "evaluate")
ON_PAIRS = ("train", "evaluate")
WITH_MODEL = ("predict", "files", "evaluate", "train", "retrain")


@dataclass(frozen=True)
class Case:
    """One row of the matrix: how the world is spoiled, and what each job does about it."""

    name: str
    spoil: Callable[[World, pytest.MonkeyPatch], None]
    expected: dict[str, Expected]


def _every(expected: Expected, jobs: tuple[str, ...] = tuple(JOBS)) -> dict[str, Expected]:
    return dict.fromkeys(jobs, expected)


def _array(name: str, array: Any, expected: dict[str, Expected], axes: str | None = None) -> Case:
    def spoil(world: World, _patch: pytest.MonkeyPatch) -> None:
        world.array, world.axes = array, axes

    return Case(name, spoil, expected)


def _holed(value: float) -> Any:
    array = PLANE.astype("f4")
    array[::3] = value
    array[5, 5] = np.inf
    array[6, 6] = -np.inf
    return array


STACKS = {**_every(OK, ("predict", "files")), **_every(("ImageError", "save each"), ON_PAIRS)}
CHANNELS = ("ImageError", "choose up to three")
EMPTY = ("ImageError", "load another")
NO_FILE = {"predict": OK}

ARRAYS = [
    *(_array(f"dtype {kind}", (PLANE % 2 if kind == "?" else PLANE).astype(kind), _every(OK))
      for kind in DTYPES),
    _array("complex", PLANE.astype("c8"), _every(("ImageError", "convert them"))),
    _array("object", PLANE.astype(object), {
        "predict": ("ImageError", "convert them"), **_every(("ImageError", "save it"), FROM_DISK)}),
    _array("NaN and infinities", _holed(np.nan), _every(OK)),
    _array("all NaN", np.full((9, 9), np.nan), _every(EMPTY)),
    _array("constant", np.full((40, 40), 7, "u2"), _every(OK)),
    _array("huge range", np.array([[-(2**62), 2**62]] * 9, "i8"), _every(OK)),
    _array("empty", np.zeros((0, 7), "u1"), _every(EMPTY)),
    _array("one pixel", np.ones((1, 1), "f4"), _every(OK)),
    _array("one row", PLANE[:1].astype("u1"), _every(OK)),
    _array("one column", PLANE[:, :1].astype("u1"), _every(OK)),
    _array("long and thin", np.arange(600, dtype="u2").reshape(2, 300), _every(OK)),
    _array("RGB", np.stack([PLANE] * 3, -1).astype("u1"), _every(OK), "yxc"),
    _array("RGBA", np.stack([PLANE] * 4, -1).astype("u1"), _every(OK), "yxc"),
    _array("2 channels", np.stack([PLANE] * 2).astype("u1"), _every(OK), "cyx"),
    _array("7 channels", np.stack([PLANE] * 7).astype("u1"), _every(CHANNELS), "cyx"),
    _array("3D", np.stack([PLANE] * 2).astype("u1"), STACKS, "zyx"),
    _array("4D", PLANE.astype("u1")[None, None].repeat(2, 0).repeat(2, 1), STACKS, "tzyx"),
    _array("5D", np.zeros((2, 2, 2, 8, 8), "u1"), _every(("ImageError", "pick a part"))),
    _array("1D", np.zeros(9, "u1"), _every(("ImageError", "axes"))),
    _array("dask", da.from_array(PLANE.astype("u2"), chunks=16), NO_FILE),
    _array("multiscale", [PLANE.astype("u1"), PLANE[::2, ::2].astype("u1")],
           NO_FILE),
]  # fmt: skip


def _install(world: World, content: bytes, suffix: str, sha256: str = "") -> None:
    """Install a weight file of any content, with a card that has its hash unless one is given."""
    card = Catalogue().get(world.model)
    digest = sha256 or hashlib.sha256(content).hexdigest()
    file = replace(card.weights, filename=f"bad{suffix}", sha256=digest, size=len(content))
    (user_folder() / file.filename).write_bytes(content)
    write_card(replace(card, name="bad", weights=file))
    world.model = "bad"


def _saved(thing: object, folder: Path) -> bytes:
    torch.save(thing, folder / "saved.pt")
    return (folder / "saved.pt").read_bytes()


class Evil:
    """A pickle that runs a command when loaded."""

    def __reduce__(self) -> Any:
        return os.system, ("echo ran > evil.txt",)


def _weights(name: str, make: Callable[[World], tuple[bytes, str]], word: str) -> Case:
    def spoil(world: World, _patch: pytest.MonkeyPatch) -> None:
        _install(world, *make(world))

    return Case(name, spoil, _every(("WeightsError", word), WITH_MODEL))


def _truncated(world: World) -> tuple[bytes, str]:
    card = Catalogue().get(world.model)
    return (user_folder() / card.weights.filename).read_bytes()[:5000], ".safetensors"


def _mismatched(world: World, _patch: pytest.MonkeyPatch) -> None:
    _install(world, b"other", ".safetensors", "0" * 64)


def _unreachable(world: World, patch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/bad.safetensors"
    patch.setenv("NO_PROXY", "127.0.0.1")
    card = Catalogue().get(world.model)
    file = replace(card.weights, filename="bad.safetensors", sha256="1" * 64, sources=(address,))
    write_card(replace(card, name="bad", weights=file))
    world.model = "bad"


def _no_space(world: World, patch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(tifffile, "imwrite", full)
    patch.setattr(torch, "save", full)


def _set(**changes: Any) -> Callable[[World, pytest.MonkeyPatch], None]:
    def spoil(world: World, _patch: pytest.MonkeyPatch) -> None:
        for name, value in changes.items():
            setattr(world, name, value)

    return spoil


def _unwritable(world: World, _patch: pytest.MonkeyPatch) -> None:
    (world.folder / "file").touch()
    world.out = world.folder / "file" / "out"


def _garbage(world: World, _patch: pytest.MonkeyPatch) -> None:
    (world.folder / "images/a.npy").write_bytes(b"this is no image")


def _missing(world: World, _patch: pytest.MonkeyPatch) -> None:
    (world.folder / "images/a.npy").unlink()


def _no_folder(world: World, _patch: pytest.MonkeyPatch) -> None:
    world.folder = world.folder / "nowhere"


SURROUNDINGS = [
    _weights("other architecture", lambda w: (_saved(nn.Linear(2, 2).state_dict(), w.folder),
             ".pt"), "QTSeg checkpoint"),
    _weights("truncated weights", _truncated, "again"),
    _weights("garbage weights", lambda w: (b"no weights at all", ".pt"), "again"),
    _weights("weights with code", lambda w: (_saved({"w": Evil()}, w.folder), ".pt"),
             "safetensors"),
    Case("hash mismatch", _mismatched, _every(("WeightsError", "by hand"), WITH_MODEL)),
    Case("no network", _unreachable, _every(("WeightsError", "by hand"), WITH_MODEL)),
    Case("unknown model", _set(model="tinny"),
         _every(("UnknownModelError", "Did you mean 'tiny'"), WITH_MODEL)),
    Case("no space", _no_space, {
        "files": ("ImageError", "free some space"), "train": ("RunFolderError", "Free some"),
        "retrain": ("RunFolderError", "Free some")}),
    Case("unwritable folder", _unwritable, {
        "files": ("ImageError", "choose another"),
        "train": ("RunFolderError", "choose another folder")}),
    Case("no image inside", _garbage, _every(("ImageError", "save it anew"), FROM_DISK)),
    Case("missing file", _missing, {
        "files": ("ImageError", "check the name"),
        **_every(("ValueError", "same name"), ON_PAIRS)}),
    Case("missing folder", _no_folder, {
        "files": ("ImageError", "check the name"),
        **_every(("ValueError", "give the folder"), ON_PAIRS)}),
    Case("mask of another size", _set(mask=np.zeros((40, 40), "u1")),
         _every(("ValueError", "same height"), ON_PAIRS)),
    Case("mask with too many classes", _set(mask=(PLANE % 5).astype("u1")),
         _every(("ValueError", "raise the number"), ON_PAIRS)),
]  # fmt: skip

TOO_SMALL = ("ImageError", "choose a larger part")
SCORED = ("score", "map", "score files")
# What the quality jobs make of a case, where it is not what a prediction makes of it.
JUDGED: dict[str, Expected] = {
    "constant": ("ImageError", "choose another image"),
    **dict.fromkeys(
        ("all NaN", "huge range", "one pixel", "one row", "one column", "long and thin"), TOO_SMALL
    ),
    "other architecture": ("WeightsError", "TOPIQ"),
    "unknown model": ("UnknownModelError", "tiny-quality"),
}
SPOILT = (
    "truncated weights",
    "garbage weights",
    "weights with code",
    "hash mismatch",
    "no network",
    "no image inside",
    "missing file",
    "unwritable folder",
    "no space",
)


def _quality_cells() -> Iterator[tuple[Case, str, Expected]]:
    """Yield the same cases for the jobs of image quality, and those of their own."""
    for case in ARRAYS:
        for job in SCORED:
            like = "predict" if job != "score files" else "files"
            if like in case.expected:
                yield case, job, JUDGED.get(case.name, case.expected[like])
    for case in SURROUNDINGS:
        for job in SCORED:
            like = "predict" if job != "score files" else "files"
            if case.name in JUDGED and like in case.expected:
                yield case, job, JUDGED[case.name]
            elif case.name in SPOILT and like in case.expected:
                yield case, job, case.expected[like]
    images = {case.name: case for case in (*ARRAYS, *SURROUNDINGS)}
    for name, expected in (
        ("dtype u1", ("ImageError", "training needs 176")),
        ("all NaN", ("ImageError", "training needs 176")),
        ("empty", ("ImageError", "load another")),
        ("no image inside", ("ImageError", "save it anew")),
        ("missing file", ("ImageError", "choose another folder")),
        ("missing folder", ("ImageError", "choose another folder")),
    ):
        yield images[name], "train quality", expected


def _neuron_cells() -> Iterator[tuple[Case, str, Expected]]:
    """Yield the same cases for a look into a classifier, which takes any size."""
    for job, model in (("explain", "tiny-pair-s"), ("split", "tiny-vit")):
        own: dict[str, Expected] = {
            "other architecture": ("WeightsError", "whole classifier"),
            "unknown model": ("UnknownModelError", model),
        }
        for case in (*ARRAYS, *SURROUNDINGS):
            if "predict" in case.expected:
                yield case, job, own.get(case.name, case.expected["predict"])


# Training takes seconds; the other jobs read these types by the same code.
SLOW = {(f"dtype {kind}", "train") for kind in DTYPES if kind not in ("?", "i8", "u2", "f2")}


def _cells() -> Iterator[Any]:
    for case in (*ARRAYS, *SURROUNDINGS):
        for job, expected in case.expected.items():
            marks = [pytest.mark.slow] if (case.name, job) in SLOW else []
            yield pytest.param(case, job, expected, id=f"{case.name}-{job}", marks=marks)
    for case, job, expected in (*_quality_cells(), *_neuron_cells()):
        yield pytest.param(case, job, expected, id=f"{case.name}-{job}")


@pytest.mark.parametrize(("case", "job", "expected"), list(_cells()))
def test_matrix(
    case: Case,
    job: str,
    expected: Expected,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rooms = {"quality_model": QUALITY, "classifier": NEURONS, "transformer": PATHS}
    kind_of = next((kind for kind, room in rooms.items() if job in room), "model")
    model = request.getfixturevalue(f"tiny_{kind_of}")
    world = World(tmp_path, model, out=tmp_path / "out")
    before_writing = case in ARRAYS or "mask" in case.name
    if before_writing:
        case.spoil(world, monkeypatch)
    if job not in ("predict", "score", "map", "explain", "split"):
        world.write()
    if not before_writing:
        case.spoil(world, monkeypatch)
    jobs = JOBS | QUALITY | NEURONS | PATHS | RETRAIN
    if expected == OK:
        jobs[job](world)
        return
    kind, word = expected
    with pytest.raises(Exception) as caught:
        jobs[job](world)
    text = str(caught.value)
    found = type(caught.value).__name__
    if found == "Reported":
        found, _, text = text.partition(": ")
    assert (found, word in text) == (kind, True), f"{found}: {text}"
    assert not (tmp_path / "evil.txt").exists()
    assert not default_store().in_use()
