"""Which devices there are, and which one, at which precision, a job runs on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import torch

__all__ = [
    "DeviceError",
    "DeviceInfo",
    "available_devices",
    "choose_device",
    "choose_precision",
    "limit_threads",
]

PRECISIONS = ("float32", "bfloat16", "float16")


class DeviceError(RuntimeError):
    """The device or precision asked for is not to be had here."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device.

    Parameters
    ----------
    device : str
        Name as torch spells it: ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    name : str
        Name for people.
    memory : int or None
        Bytes in all; None where the system does not tell.
    """

    device: str
    name: str
    memory: int | None


def available_devices() -> list[DeviceInfo]:
    """Return the usable devices, the CPU first."""
    devices = [DeviceInfo("cpu", platform.processor() or platform.machine(), _cpu_memory())]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            devices.append(DeviceInfo(f"cuda:{index}", properties.name, properties.total_memory))
    if torch.backends.mps.is_available():
        memory = int(torch.mps.recommended_max_memory())
        devices.append(DeviceInfo("mps", "Apple GPU", memory))
    return devices


def choose_device(name: str | None = "auto") -> str:
    """Return the device to use.

    Parameters
    ----------
    name : str, optional
        A device, or "auto" (or None) for the first accelerator, else the CPU. A device asked
        for by name is never replaced by another.

    Raises
    ------
    DeviceError
        The device is not on this machine.
    """
    names = [d.device for d in available_devices()]
    if name is None or name == "auto":
        return names[1] if len(names) > 1 else names[0]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in names:
        raise DeviceError(
            f"The device {name!r} is not available here; use auto, or one of {', '.join(names)}."
            + (" This PyTorch is built without CUDA." if _lacks_cuda(wanted) else "")
        )
    return wanted


def choose_precision(device: str, wanted: str = "auto") -> str:
    """Return the precision to compute in on `device`.

    Parameters
    ----------
    device : str
    wanted : {"auto", "float32", "bfloat16", "float16"}
        "auto" is bfloat16 on GPUs that have it in hardware and float32 elsewhere.

    Raises
    ------
    DeviceError
        The device cannot do it.
    """
    kind = device.partition(":")[0]
    if wanted == "auto":
        return "bfloat16" if kind == "cuda" and _has_bfloat16(device) else "float32"
    if wanted not in PRECISIONS:
        raise DeviceError(f"Precision must be auto or one of {', '.join(PRECISIONS)}: {wanted!r}")
    if wanted == "float16" and kind == "cpu":
        raise DeviceError("float16 is for GPUs; use float32 or bfloat16 on the CPU.")
    if wanted == "bfloat16" and kind == "cuda" and not _has_bfloat16(device):
        raise DeviceError(f"{device} has no bfloat16 in hardware; use float32 or float16.")
    return wanted


def limit_threads() -> int:
    """Leave one core to the user interface; return the number of threads torch now uses.

    A lower ``OMP_NUM_THREADS``, or a lower number set before, stays in force.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on Windows and macOS.
        cores = os.cpu_count() or 1
    limit = min(max(1, cores - 1), torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        limit = min(limit, int(asked))
    torch.set_num_threads(limit)
    return limit


def _lacks_cuda(wanted: str) -> bool:
    return wanted.startswith("cuda") and not (torch.version.cuda or torch.version.hip)


def _has_bfloat16(device: str) -> bool:
    if torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _cpu_memory() -> int | None:
    try:
        return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf.
        return None
