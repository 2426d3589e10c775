"""Streaming gives the files that working in memory gives."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Cancelled, Context, Progress
from napari_cvsuite.segmentation import blockwise, files, source
from napari_cvsuite.segmentation.files import segment_files
from napari_cvsuite.segmentation.options import PredictOptions

RNG = np.random.default_rng(0)


def _both(
    monkeypatch: pytest.MonkeyPatch, path: Path, out: Path, options: PredictOptions
) -> tuple[dict[str, object], dict[str, object]]:
    """Segment in memory and streamed, with blocks far smaller than the image."""
    held = segment_files([path], out / "held", options, Context(), probabilities=True)
    for module in (source, blockwise):
        monkeypatch.setattr(module, "BLOCK_PIXELS", 2000)
    for function in (source.row_blocks, blockwise.label_blocks):
        defaults = tuple(2000 if d == 4_000_000 else d for d in function.__defaults__ or ())
        monkeypatch.setattr(function, "__defaults__", defaults)
    monkeypatch.setattr(files, "LARGE_PIXELS", 0)
    streamed = segment_files([path], out / "streamed", options, Context(), probabilities=True)
    assert held["failed"] == streamed["failed"] == 0, streamed
    return held["inputs"][0], streamed["inputs"][0]


def _image(folder: Path, kind: str) -> Path:
    pixels = RNG.integers(0, 255, (150, 170, 3), dtype=np.uint8)
    path = folder / "i.tif"
    if kind == "tiff":
        tifffile.imwrite(path, pixels, photometric="rgb")
    elif kind == "compressed tiff":
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", rowsperstrip=16)
    elif kind == "stack":
        volume = RNG.integers(0, 9999, (3, 80, 90)).astype(np.uint16)
        tifffile.imwrite(path, volume, imagej=True, metadata={"axes": "ZYX"})
    else:
        path = folder / "i.zarr"
        zarr.create_array(path, data=pixels, chunks=(64, 64, 3))
    return path


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tiff", {}),
        ("tiff", {"objects": "watershed", "min_size": 0, "stain": "hematoxylin"}),
        ("compressed tiff", {"fill_holes": True}),
        ("zarr", {"tta": True, "channels": "1"}),
        ("stack", {"objects": "none"}),
        ("stack", {"axis": "y"}),
        ("stack", {"axis": "x", "min_size": 3}),
        ("stack", {"skip": "0,2"}),
        ("stack", {"axis": "y", "skip": "3-70"}),
    ],
)
def test_streamed_files_equal_those_made_in_memory(
    tmp_path: Path,
    tiny_model: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, object],
) -> None:
    monkeypatch.setattr("napari_cvsuite.images.readers.LAZY_BYTES", 0)
    path = _image(tmp_path, kind)
    chosen = PredictOptions(model=tiny_model, tile=64, halo=16, **options)
    held, streamed = _both(monkeypatch, path, tmp_path, chosen)
    assert {p.name for p in (tmp_path / "streamed").iterdir()} == {
        "i.labels.tif",
        "i.objects.csv",
        "i.prob.tif",
        "summary.json",
    }
    labels = [tifffile.imread(tmp_path / f / "i.labels.tif") for f in ("held", "streamed")]
    assert labels[0].dtype == labels[1].dtype == np.uint8
    assert np.array_equal(*labels)
    assert held["class_areas"] == streamed["class_areas"]
    assert held["objects"] == streamed["objects"] > 0
    maps = [tifffile.imread(tmp_path / f / "i.prob.tif") for f in ("held", "streamed")]
    # What is held in memory has half precision.
    assert maps[0].shape == maps[1].shape and np.abs(maps[0] - maps[1]).max() < 1e-3
    tables = [(tmp_path / f / "i.objects.csv").read_text() for f in ("held", "streamed")]
    if options.get("objects") == "watershed":
        # Only the order differs; without their numbers the rows are the same.
        tables = ["\n".join(sorted(r.partition(",")[2] for r in t.splitlines())) for t in tables]
    assert tables[0] == tables[1]


def test_progress_of_files_is_smooth_and_rises(tmp_path: Path, tiny_model: str) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", RNG.random((100, 200)))
    seen: list[Progress] = []
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    options = PredictOptions(model=tiny_model, tile=64, halo=8)
    segment_files(paths, tmp_path / "out", options, Context(on_progress=seen.append))
    shares = [progress.done for progress in seen]
    assert shares == sorted(shares) and shares[-1] <= 2 == seen[-1].total
    assert np.diff(shares).max() < 0.5


@pytest.mark.parametrize("large", [False, True])
def test_cancelled_file_leaves_nothing(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    monkeypatch.setattr(files, "LARGE_PIXELS", 0 if large else 10**9)
    np.save(tmp_path / "a.npy", RNG.random((100, 200)))
    context = Context()

    def stop(progress: Progress) -> None:
        if progress.preview is not None:
            context.token.cancel()

    context.on_progress = stop
    options = PredictOptions(model=tiny_model, tile=64, halo=8)
    with pytest.raises(Cancelled):
        segment_files([tmp_path / "a.npy"], tmp_path / "out", options, context)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space is not claimed here")
def test_full_disk_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "LARGE_PIXELS", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    np.save(tmp_path / "a.npy", RNG.random((100, 200)))
    out = tmp_path / "out"
    summary = segment_files([tmp_path / "a.npy"], out, PredictOptions(model=tiny_model), Context())
    assert "No space left" in summary["inputs"][0]["error"]
    assert "free some space" in summary["inputs"][0]["error"]
    assert [p.name for p in out.iterdir()] == ["summary.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_table_and_summary_on_a_full_disk(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("the summary before")
    np.save(tmp_path / "a.npy", np.eye(40))
    # Everything that is written to /dev/full is refused with "no space left on device".
    (out / "a.objects.csv.partial").symlink_to("/dev/full")
    options = PredictOptions(model=tiny_model, min_size=0)
    summary = segment_files([tmp_path / "a.npy"], out, options, Context())
    error = summary["inputs"][0]["error"]
    assert "a.objects.csv" in error and "free some space" in error
    assert not (out / "a.objects.csv").exists()
    assert json.loads((out / "summary.json").read_text()) == summary
    before = (out / "summary.json").read_text()
    (out / "summary.json.partial").symlink_to("/dev/full")
    with pytest.raises(ImageError, match=r"summary\.json.*free some space"):
        segment_files([tmp_path / "a.npy"], out, options, Context())
    assert (out / "summary.json").read_text() == before
    assert not list(out.glob("*.partial"))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ImageError, match="choose another"):
            segment_files([], folder, PredictOptions(), Context())
