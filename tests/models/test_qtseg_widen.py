"""A widened network answers as the narrow one, and its copies can part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig
from napari_cvsuite.models.qtseg_widen import widen


def _network(width: int, classes: int = 3) -> QTSeg:
    """Return a network whose normalisations, gates and biases have something to say."""
    torch.manual_seed(width)
    network = QTSeg(QTSegConfig(num_classes=classes, n_channel=width))
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "norm.weight", "bn.weight")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias", "gamma")):
            tensor.normal_(0, 0.2)
    return network.eval()


def _widened(network: QTSeg, width: int, seed: int = 0) -> QTSeg:
    wide = QTSeg(QTSegConfig(num_classes=network.config.num_classes, n_channel=width))
    wide.load_state_dict(widen(network.state_dict(), width, seed))
    return wide.eval()


def _image() -> Tensor:
    torch.manual_seed(5)
    return torch.rand(2, 3, 64, 96) * 2 - 1


@pytest.mark.parametrize(("narrow", "width"), [(4, 8), (8, 16), (4, 12), (8, 8)])
def test_whole_multiples_give_the_same_logits(narrow: int, width: int) -> None:
    network = _network(narrow).double()
    wide = _widened(network, width).double()
    with torch.no_grad():
        expected, _ = network(_image().double())
        found, embedding = wide(_image().double())
    # The state passes through float32.
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert embedding.shape[1] == 4 * width


@pytest.mark.parametrize(("narrow", "width"), [(8, 12), (12, 16), (12, 20), (16, 20)])
def test_between_multiples_the_maps_are_the_same_before_the_decoder(
    narrow: int, width: int
) -> None:
    network = _network(narrow)
    wide = _widened(network, width)
    with torch.no_grad():
        expected = network.bridge(network.image_encoder(_image()))
        found = wide.bridge(wide.image_encoder(_image()))
        logits, answer = network(_image())[0], wide(_image())[0]
    for before, after in zip(expected, found, strict=True):
        # Every map is there, and no other.
        exact = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(after[0].flatten(1), before[0].flatten(1), compute_mode=exact)
        assert distance.amin(dim=1).max() < 1e-3
        assert distance.amin(dim=0).max() < 1e-3
        assert after.shape[1] * narrow == before.shape[1] * width
    alike = torch.corrcoef(torch.stack([logits.flatten(), answer.flatten()]))[0, 1]
    assert alike > 0.9


def test_copies_share_unevenly_and_as_the_seed_says() -> None:
    state = _network(8).state_dict()
    wide, again, other = widen(state, 12, 1), widen(state, 12, 1), widen(state, 12, 2)
    key = "image_encoder.conv_1.conv.weight"
    assert torch.equal(wide[key], again[key])
    assert not torch.equal(wide[key], other[key])
    one, two = wide[key][:, 0], wide[key][:, 2]
    assert not torch.allclose(one, two, rtol=0.01)
    assert torch.allclose((one + two)[0], state[key][0, 0], atol=1e-6)
    assert wide[key.replace("conv.weight", "bn.num_batches_tracked")].dtype == torch.int64


@pytest.mark.parametrize("width", [4, 10, 0])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4 from 8 on"):
        widen(_network(8).state_dict(), width)
