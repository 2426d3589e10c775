"""What is spooled comes back, and what does not fit is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_cvsuite.neurons import spool as module
from napari_cvsuite.neurons.spool import Spool, SpoolError


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal((3, 2, 2)).astype(np.float32) for _ in range(4)]
    # Labels may differ in size between images, and be large.
    labels = [[np.full((i + 2, 5), 70000 * i), np.zeros((i + 2, 5), int)] for i in range(4)]
    with Spool(directory=tmp_path) as spool:
        for one, marked in zip(maps, labels, strict=True):
            spool.append(one, marked)
        assert len(spool) == 4
        for number in (3, 0, 2):
            assert np.array_equal(spool.activations(number), maps[number])
            assert np.array_equal(spool.labels(number), labels[number])
        assert np.array_equal(np.concatenate(list(spool.chunks([1, 3]))), np.stack(maps)[[1, 3]])
        file = spool._file
    assert file.closed and not list(tmp_path.iterdir())


def test_chunks_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    with Spool() as spool:
        for number in range(5):
            # 64 bytes each, so two reach the limit.
            spool.append(np.full((2, 2, 4), number, np.float32), [np.zeros((1, 1), int)])
        found = list(spool.chunks(range(5)))
    assert [len(one) for one in found] == [2, 2, 1]
    assert np.concatenate(found)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_disk_that_is_too_small_is_said_after_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    # 2048 x 7 x 7 floats are 401,408 bytes: 10,000 of them do not fit in one GiB.
    with (
        pytest.raises(SpoolError, match=r"3\.7 GiB are needed, 1\.0 GiB are free; free space"),
        Spool(10_000, tmp_path) as spool,
    ):
        spool.append(np.zeros((2048, 7, 7), np.float32), [np.zeros((1, 1), int)])
    with Spool(2_000, tmp_path) as spool:
        spool.append(np.zeros((2048, 7, 7), np.float32), [np.zeros((1, 1), int)])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w+b")  # noqa: SIM115
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda dir: full)
    with pytest.raises(SpoolError, match="No space left on device; free space"), Spool() as spool:
        spool.append(np.zeros((2, 2, 2), np.float32), [np.zeros((1, 1), int)])
