"""Tests of what is shipped: the wheel holds what it needs and works where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = "Scripts" if sys.platform == "win32" else "bin"
# What pip and uv may reach for a build; longer than any build takes.
TIMEOUT_S = 250


def _uv() -> str | None:
    """Return the path of uv, on the search path or beside this Python."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def _call(command: list[str], cwd: Path = ROOT, timeout: float = TIMEOUT_S) -> str:
    """Run a program without the settings of this test run; return what it prints."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    if importlib.util.find_spec("hatchling"):
        _call([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)])
    elif uv := _uv():
        _call([uv, "build", "--wheel", "--out-dir", str(folder), str(ROOT)])
    else:
        pytest.skip("neither hatchling nor uv is installed to build a wheel")
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_is_small_and_holds_the_weights(wheel: Path) -> None:
    assert wheel.stat().st_size < 90e6
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sources = ROOT / "src"
        package = sources / "napari_cvsuite"
        needed = [package / "py.typed", *package.rglob("*.py")]
        needed += [*(package / "models/builtin").glob("*.safetensors")]
        needed += [*(package / "models/builtin").glob("*.json")]
        needed += [*(package / "models/known").glob("*.json")]
        if (package / "napari.yaml").exists():
            needed.append(package / "napari.yaml")
        assert {path.relative_to(sources).as_posix() for path in needed} <= names
        cards = [name for name in names if "/builtin/" in name and name.endswith(".json")]
        assert cards
        for name in cards:
            weights = json.loads(archive.read(name))["weights"]
            file = archive.getinfo(f"napari_cvsuite/models/builtin/{weights['filename']}")
            assert file.file_size == weights["size"]
        points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "napari-cvsuite = napari_cvsuite.cli:main" in archive.read(points).decode()
    # Nothing of the tests, the benchmarks or a cache travels with it.
    assert {name.split("/")[0].split("-")[0] for name in names} == {"napari_cvsuite"}
    assert not [name for name in names if name.endswith((".pyc", ".partial"))]


PYTHON_DOOR = """
import sys
from pathlib import Path
import napari_cvsuite, skimage
from skimage.io import imread

assert Path(napari_cvsuite.__file__).is_relative_to(sys.prefix), napari_cvsuite.__file__
picture = imread(Path(skimage.__file__).parent / "data" / "ihc.png")
result = napari_cvsuite.segment(picture, model="qtseg-nuclei", stain="hematoxylin", device="cpu")
assert result.classes.shape == picture.shape[:2]
print(len(result.table))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    python = str(venv / BIN / "python")
    if uv := _uv():
        _call([uv, "venv", "-q", "--python", sys.executable, str(venv)])
        _call([uv, "pip", "install", "-q", "--python", python, str(wheel)], timeout=900)
    else:
        _call([sys.executable, "-m", "venv", str(venv)])
        _call([python, "-m", "pip", "install", "-q", str(wheel)], timeout=900)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = "import skimage, pathlib; print(pathlib.Path(skimage.__file__).parent / 'data')"
    picture = Path(_call([python, "-c", place], elsewhere).strip()) / "ihc.png"
    program = str(venv / BIN / "napari-cvsuite")
    arguments = ["segment", str(picture), "--stain", "hematoxylin", "--out", "out", "--json"]
    summary = json.loads(_call([program, *arguments, "--device", "cpu"], elsewhere))
    assert summary["failed"] == 0 and summary["inputs"][0]["objects"] > 50
    assert (elsewhere / "out" / "ihc.labels.tif").is_file()
    found = int(_call([python, "-c", PYTHON_DOOR], elsewhere))
    assert found > 50
    # Without Qt the program is usable; the doctor says so.
    report = json.loads(_call([program, "doctor", "--offline", "--json"], elsewhere))
    assert all(row["ok"] or not row["needed"] for row in report)
