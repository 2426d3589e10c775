from __future__ import annotations

import pytest
import torch

from napari_cvsuite.models import device as module
from napari_cvsuite.models.device import (
    DeviceError,
    DeviceInfo,
    available_devices,
    choose_device,
    choose_precision,
    limit_threads,
)


def test_cpu_is_first_and_absent_devices_are_refused() -> None:
    devices = available_devices()
    assert devices[0].device == "cpu" and choose_device("cpu") == "cpu"
    assert choose_device() in [d.device for d in devices]
    with pytest.raises(DeviceError, match="use auto, or one of cpu"):
        choose_device("cuda:99")


def test_auto_takes_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [DeviceInfo("cpu", "", None), DeviceInfo("cuda:0", "", 1)]
    monkeypatch.setattr(module, "available_devices", lambda: found)
    assert choose_device("auto") == choose_device(None) == choose_device("cuda") == "cuda:0"


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("cpu") == choose_precision("mps") == "float32"
    assert choose_precision("cpu", "bfloat16") == "bfloat16"
    for wanted in ("float16", "int8"):
        with pytest.raises(DeviceError):
            choose_precision("cpu", wanted)
    monkeypatch.setattr(module, "_has_bfloat16", lambda device: False)
    assert choose_precision("cuda:0") == "float32"
    with pytest.raises(DeviceError):
        choose_precision("cuda:0", "bfloat16")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert 1 <= limit_threads() <= before
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert limit_threads() == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
