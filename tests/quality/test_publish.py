"""Calibrated confidence."""

from __future__ import annotations

import pytest
import torch

from napari_cvsuite.models.topiq import CFANet, TopiqConfig
from napari_cvsuite.quality.publish import calibrate, temperature
from napari_cvsuite.quality.series import KINDS


def test_temperature_undoes_exaggeration() -> None:
    torch.manual_seed(0)
    honest = 2 * torch.randn(20_000, 5)
    kinds = torch.multinomial(honest.softmax(dim=1), 1)[:, 0]
    assert temperature(honest, kinds) == pytest.approx(1.0, rel=0.05)
    assert temperature(3 * honest, kinds) == pytest.approx(3.0, rel=0.05)


def test_calibration_divides_logits_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    options = {"semantic_model_name": "resnet10_compact", "use_ref": False, "inter_dim": 16}
    network = CFANet(
        TopiqConfig(**options, gate_channels=4, distortions=len(KINDS))  # type: ignore[arg-type]
    ).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = network.examine(x)
        network.load_state_dict(calibrate(network.state_dict(), 2.0))
        after = network.examine(x)
    torch.testing.assert_close(after.logits, before.logits / 2)
    torch.testing.assert_close(after.strengths, before.strengths)
    torch.testing.assert_close(after.score, before.score)
