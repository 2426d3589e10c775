"""Adam against torch's own."""

from __future__ import annotations

import torch

from napari_cvsuite.models.adam import Adam


def test_steps_are_those_of_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    there = torch.randn(7, generator=draw).double().requires_grad_()
    here = there.detach().clone()
    theirs, ours = torch.optim.Adam([there], lr=0.05), Adam(0.05)
    for _ in range(20):
        slope = torch.randn(7, generator=draw).double()
        there.grad = slope
        theirs.step()
        here = here - ours.step(slope)
        torch.testing.assert_close(here, there.detach())
