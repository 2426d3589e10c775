"""A health check of the installation, in words that a non-programmer can act on."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Finding", "examine"]

FREE_BYTES = 2e9
TIMEOUT_S = 3.0
BINDINGS = ("PyQt6", "PyQt5", "PySide6", "PySide2")


@dataclass(frozen=True)
class Finding:
    """One result of the check.

    Parameters
    ----------
    name : str
        What was looked at.
    ok : bool
    found : str
        What was found.
    advice : str
        What to do about it; empty when all is well.
    needed : bool
        Whether the program is of no use until it is mended.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = True


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    advice = "" if ok else "Install Python 3.11 or newer and napari-cvsuite in it."
    return Finding("Python", ok, platform.python_version(), advice)


def _version(package: str) -> str | None:
    """Return the installed version, found without importing the package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _window() -> Finding:
    versions = {name: version for name in BINDINGS if (version := _version(name))}
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if not versions:
        return Finding(
            "Window system",
            False,
            "no Qt (the command line and Python work without it)",
            'To open napari, run: pip install "napari-cvsuite[pyqt6]"',
            needed=False,
        )
    if len(versions) > 1:
        advice = f"If napari does not open, keep one: pip uninstall {' '.join(list(versions)[1:])}"
        return Finding("Window system", True, found, advice)
    return Finding("Window system", True, found)


def _opengl() -> Finding:
    name = {"win32": "opengl32", "darwin": "OpenGL"}.get(sys.platform, "GL")
    found = ctypes.util.find_library(name)
    if found:
        return Finding("OpenGL", True, found)
    advice = (
        "napari cannot draw without it; on Debian or Ubuntu run: sudo apt install libgl1 libegl1"
        if sys.platform.startswith("linux")
        else "napari cannot draw without it; install the driver of your graphics card."
    )
    return Finding("OpenGL", False, "not found", advice, needed=False)


def _torch() -> Finding:
    import torch

    gpu = torch.version.cuda or torch.version.hip
    return Finding("PyTorch", True, f"{torch.__version__} ({gpu or 'for the CPU only'})")


def _threads() -> Finding:
    import torch

    waiting = os.environ.get("OMP_WAIT_POLICY", "not set")
    calm = waiting.lower() == "passive"
    # Threads that spin while they wait make a busy machine several times slower.
    advice = "" if calm else "Start napari through napari-cvsuite, or set OMP_WAIT_POLICY=passive."
    found = f"{torch.get_num_threads()} for {os.cpu_count()} processors, waiting: {waiting}"
    return Finding("Threads", calm, found, advice, needed=False)


def _driver() -> tuple[str, tuple[int, int]] | None:
    """Return the version of the NVIDIA driver and the newest CUDA it can run; None without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        run = subprocess.run(
            [program], capture_output=True, text=True, timeout=4 * TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "that does not answer", (0, 0)
    driver = re.search(r"Driver Version: ([\d.]+)", run.stdout)
    cuda = re.search(r"CUDA Version: (\d+)\.(\d+)", run.stdout)
    if driver is None or cuda is None:
        return "that does not answer", (0, 0)
    return driver.group(1), (int(cuda.group(1)), int(cuda.group(2)))


def _devices() -> Finding:
    import torch

    from napari_cvsuite.models.device import available_devices

    devices = available_devices()
    found = ", ".join(f"{device.device} ({device.name})" for device in devices)
    driver = _driver()
    if driver is None:
        return Finding("Devices", True, found)
    version, newest = driver
    found += f"; NVIDIA driver {version}"
    built = torch.version.cuda
    if len(devices) > 1:
        return Finding("Devices", True, f"{found}, PyTorch for CUDA {built}")
    if built is None:
        advice = (
            "This PyTorch cannot use the NVIDIA card; reinstall it with its CUDA build: see "
            "https://pytorch.org/get-started/locally"
        )
    # Within one major version, drivers run programs built for a newer minor one.
    elif newest[0] < int(built.partition(".")[0]):
        advice = (
            f"PyTorch needs a driver for CUDA {built}, this one ends at {newest[0]}.{newest[1]}; "
            "update the NVIDIA driver and restart."
        )
    else:
        advice = "PyTorch does not see the NVIDIA card; update its driver and restart."
    return Finding("Devices", False, found, advice, needed=False)


def _models() -> Finding:
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.local import is_here
    from napari_cvsuite.models.weights import WeightsError, verify

    catalogue = Catalogue()
    broken = [f"{problem}; repair or delete that file" for problem in catalogue.problems]
    good = []
    for card in catalogue:
        if card.weights.sources and not is_here(card):
            continue  # Still to be fetched, should somebody want it.
        try:
            verify(card)
            good.append(card.name)
        except WeightsError as error:
            broken.append(str(error))
    found = ", ".join(good) or "none on this machine"
    return Finding("Models", not broken, found, "; ".join(broken))


def _space(name: str, folder: Path) -> Finding:
    whole = folder.absolute()
    existing = next(parent for parent in (whole, *whole.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    found = f"{free / 1e9:.1f} GB free for {folder}" + ("" if writable else ", not writable")
    if not writable:
        return Finding(name, False, found, f"Give write access to {existing}, or use another.")
    if free < FREE_BYTES:
        return Finding(name, False, found, f"Free some space on the disk of {existing}.")
    return Finding(name, True, found)


def _disk() -> Finding:
    from napari_cvsuite.models.catalog import user_folder

    return _space("Disk", user_folder())


def _network() -> Finding:
    import requests

    from napari_cvsuite.models.catalog import Catalogue

    mirror = os.environ.get("NAPARI_CVSUITE_MIRROR")
    origins = [card.weights.sources[0] for card in Catalogue() if card.weights.sources]
    # One address of each host: they all go the same way through a firewall.
    hosts = {
        urlsplit(url).netloc: url for url in reversed([*([mirror] if mirror else []), *origins])
    }
    urls = list(hosts.values())
    if not urls:
        return Finding("Network", True, "not needed (every model is on this machine)")
    refused = []
    for url in urls:
        try:
            requests.head(url, timeout=TIMEOUT_S, allow_redirects=True)
        except requests.RequestException as error:
            refused.append(f"{url} ({type(error).__name__})")
    if not refused:
        return Finding("Network", True, f"{len(urls)} addresses of models answer")
    advice = (
        "Models cannot be downloaded from there: set NAPARI_CVSUITE_MIRROR to a reachable copy, or "
        "bring them with: napari-cvsuite models import BUNDLE.zip"
    )
    found = f"no answer from {', '.join(refused)}"
    return Finding("Network", False, found, advice, needed=False)


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _torch,
    _devices,
    _threads,
    _window,
    _opengl,
    _models,
    _disk,
)


def examine(out: Path | None = None, offline: bool = False) -> list[Finding]:
    """Run every check; one that breaks is a finding itself.

    Parameters
    ----------
    out : Path, optional
        Folder for results, whose free space is checked, too.
    offline : bool
        Do not try the network.
    """
    version = _version("napari-cvsuite") or "not installed (run from its source)"
    findings = [Finding("napari-cvsuite", True, version)]
    for check in (*CHECKS, *(() if offline else (_network,))):
        findings.append(_careful(check, check.__name__.strip("_").capitalize()))
    if out is not None:
        findings.append(_careful(lambda: _space("Output", out), "Output"))
    return findings


def _careful(check: Callable[[], Finding], name: str) -> Finding:
    try:
        return check()
    # The doctor must never be the patient: whatever is broken is what the user asks about.
    except Exception as error:
        advice = "Reinstall napari-cvsuite in a new environment."
        return Finding(name, False, f"{type(error).__name__}: {error}", advice)
