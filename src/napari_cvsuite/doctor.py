"""A health check of the installation, in words that a non-programmer can act on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finding", "examine"]

FREE_BYTES = 2e9


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
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, platform.python_version(), "" if ok else "Install Python 3.11.")


def _torch() -> Finding:
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    waiting = os.environ.get("OMP_WAIT_POLICY", "not set")
    # Threads that spin while they wait make a busy machine several times slower.
    calm = waiting.lower() == "passive"
    advice = "" if calm else "Start napari through napari-cvsuite, or set OMP_WAIT_POLICY=passive."
    found = f"{torch.__version__} ({built}), {torch.get_num_threads()} threads, waiting: {waiting}"
    return Finding("PyTorch", calm, found, advice)


def _devices() -> Finding:
    import torch

    from napari_cvsuite.models.device import available_devices

    devices = available_devices()
    found = ", ".join(f"{device.device} ({device.name})" for device in devices)
    hidden = len(devices) == 1 and Path("/proc/driver/nvidia/version").exists()
    if not hidden:
        return Finding("Devices", True, found)
    if torch.version.cuda is None:
        advice = "This PyTorch cannot use the NVIDIA card; reinstall it with its CUDA build."
    else:
        advice = "PyTorch does not see the NVIDIA card; update its driver and restart."
    return Finding("Devices", False, found, advice)


def _window() -> Finding:
    for binding in ("PyQt6", "PyQt5"):
        if importlib.util.find_spec(binding):
            return Finding("Window system", True, binding)
    return Finding("Window system", True, "none (the command line and Python work without)")


def _models() -> Finding:
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import WeightsError, verify

    catalogue = Catalogue()
    broken = list(catalogue.problems)
    good = []
    for card in catalogue:
        try:
            verify(card)
            good.append(card.name)
        except WeightsError as error:
            broken.append(str(error))
    advice = "; ".join(broken)
    return Finding("Models", not broken, ", ".join(good) or "none on this machine", advice)


def _disk() -> Finding:
    from napari_cvsuite.models.catalog import user_folder

    folder = user_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    ok = free >= FREE_BYTES and os.access(existing, os.W_OK)
    found = f"{free / 1e9:.1f} GB free for {folder}"
    advice = "" if ok else f"Free some space, or give write access to {existing}."
    return Finding("Disk", ok, found, advice)


CHECKS: tuple[Callable[[], Finding], ...] = (_python, _torch, _devices, _window, _models, _disk)


def examine() -> list[Finding]:
    """Run every check; one that breaks is a finding itself."""
    version = importlib.metadata.version("napari-cvsuite")
    findings = [Finding("napari-cvsuite", True, version)]
    for check in CHECKS:
        try:
            findings.append(check())
        # The doctor must never be the patient: whatever is broken is what the user asks about.
        except Exception as error:
            name = check.__name__.strip("_").capitalize()
            advice = "Reinstall napari-cvsuite in a new environment."
            findings.append(Finding(name, False, f"{type(error).__name__}: {error}", advice))
    return findings
