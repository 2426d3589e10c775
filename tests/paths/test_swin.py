"""Shares of a Swin sum to its logits, whatever its version and size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.models.swin_weights import build_swin
from napari_cvsuite.paths.decompose import NotDecomposableError
from napari_cvsuite.paths.swin import swin_direct


def network(version: int = 1, window: int = 4) -> nn.Module:
    from torchvision.models import swin_transformer as swin

    torch.manual_seed(version)
    block = swin.SwinTransformerBlock if version == 1 else swin.SwinTransformerBlockV2
    merge = swin.PatchMerging if version == 1 else swin.PatchMergingV2
    made: nn.Module = swin.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=16,
        depths=[2, 2, 2],
        num_heads=[2, 4, 8],
        window_size=[window, window],
        num_classes=5,
        block=block,
        downsample_layer=merge,
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("version", [1, 2])
def test_shares_sum_to_the_logits(version: int, x: Tensor) -> None:
    made = network(version).double()
    found = swin_direct(made, x.double())
    with torch.inference_mode():
        logits = made(x.double())
    torch.testing.assert_close(found.logits, logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.values.sum(dim=0), logits, rtol=0, atol=1e-10)
    assert found.residual < 1e-10
    torch.testing.assert_close(found.maps.sum(dim=(2, 3)), found.values[:-1], rtol=0, atol=1e-10)


def test_the_package_s_own_network_has_the_same_shares(x: Tensor) -> None:
    for version in (1, 2):
        theirs = network(version)
        own = build_swin(theirs.state_dict(), {}).model
        found, expected = swin_direct(own, x), swin_direct(theirs, x)
        assert found.names == expected.names
        torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-4)


def test_single_precision_keeps_the_sum(x: Tensor) -> None:
    assert swin_direct(network(), x).residual < 2e-5


def test_odd_maps_are_padded_as_the_network_pads_them() -> None:
    made = network(window=3).double()
    x = torch.randn(1, 3, 36, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = made(x)
    torch.testing.assert_close(swin_direct(made, x).values.sum(dim=0), logits, rtol=0, atol=1e-10)


def test_names_follow_the_stages(x: Tensor) -> None:
    names = swin_direct(network(), x).names
    assert names[:6] == ("embed", "msa_0", "ffn_0", "msa_1", "ffn_1", "merge_0")
    assert names[-2:] == ("ffn_5", "const")
    assert len(names) == 1 + 2 * 6 + 2 + 1


def test_a_path_that_is_zero_has_no_share(x: Tensor) -> None:
    made = network().double()
    last = made.features[-1][1].mlp[3]  # type: ignore[index,union-attr]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    found = swin_direct(made, x.double())
    number = found.names.index("ffn_5")
    assert found.values[number].abs().max() == 0
    torch.testing.assert_close(found.removed_final[number], found.logits)


def test_left_out_paths_are_those_of_the_last_norm(x: Tensor) -> None:
    made = network().double()
    found = swin_direct(made, x.double())
    silent = network().double()
    silent.load_state_dict(made.state_dict())
    last = silent.features[-1][1].mlp[3]  # type: ignore[index,union-attr]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    with torch.inference_mode():
        logits = silent(x.double())
    # Nothing follows the last write but the norm.
    number = found.names.index("ffn_5")
    torch.testing.assert_close(found.removed_final[number], logits, rtol=0, atol=1e-10)


def test_other_networks_are_refused(x: Tensor) -> None:
    with pytest.raises(NotDecomposableError, match=r"Linear is no Swin transformer"):
        swin_direct(nn.Linear(3, 3), x)


def test_training_mode_is_refused(x: Tensor) -> None:
    with pytest.raises(NotDecomposableError, match=r"call eval\(\)"):
        swin_direct(network().train(), x)


def test_unknown_blocks_are_refused(x: Tensor) -> None:
    made = network()
    made.features[1][0] = nn.Identity()  # type: ignore[index]
    with pytest.raises(NotDecomposableError, match="blocks of class Identity are unknown"):
        swin_direct(made, x)


def test_it_can_be_cancelled(x: Tensor) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        swin_direct(network(), x, Context(token=token))
