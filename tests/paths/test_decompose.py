"""The prediction as an exact sum, against sums written out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.models.vit import Block, SelfAttention, VisionTransformer
from napari_cvsuite.paths import decompose, intervene
from napari_cvsuite.paths.decompose import NotDecomposableError, collect

Maker = Callable[..., VisionTransformer]


def _double(model: VisionTransformer, x: Tensor) -> tuple[VisionTransformer, decompose.Paths]:
    model = model.double()
    return model, collect(model, x.double())


def _share(model: VisionTransformer, part: Tensor, final: Tensor) -> Tensor:
    """Normalise a part ``B x T x D`` with the deviations of the final sum, then apply the head."""
    norm, config = model.encoder.ln, model.config

    def frozen(part: Tensor, whole: Tensor) -> Tensor:
        deviation = (whole.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        return norm.weight * (part - part.mean(dim=-1, keepdim=True)) / deviation

    heads = [model.heads.pre_logits if config.pre_logits else model.heads.head]
    if config.pool == "token":
        heads += [model.heads.head_dist] if config.distilled else []
        read = [frozen(part[:, i], final[:, i]) for i in range(len(heads))]
    else:
        part, final = part[:, config.prefix :], final[:, config.prefix :]
        if config.pool == "avg_norm_after":
            read = [frozen(part.mean(dim=1), final.mean(dim=1))]
        else:
            read = [frozen(part, final).mean(dim=1)]
    shares = [one @ head.weight.T for one, head in zip(read, heads, strict=True)]
    return sum(shares) / len(shares)  # type: ignore[return-value]


def test_running_by_parts_is_the_network_itself(each_kind: VisionTransformer, x: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(collect(each_kind, x).logits, each_kind(x))


def test_shares_add_up_to_the_logits(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    assert paths.logits.abs().max() > 0.1
    assert decompose.residual(each_kind, paths) <= 5e-6
    torch.testing.assert_close(sum(paths.writes), paths.final, rtol=0, atol=5e-6)
    model, exact = _double(each_kind, x)
    assert decompose.residual(model, exact) <= 1e-12


def test_every_share_by_hand(each_kind: VisionTransformer, x: Tensor) -> None:
    model, paths = _double(each_kind, x)
    found = decompose.direct(model, paths)
    assert len(found) == model.config.num_paths + 1
    for write, share in zip(paths.writes, found[:-1], strict=True):
        torch.testing.assert_close(share, _share(model, write, paths.final))
    assert torch.equal(found[-1, 0], found[-1, 1])
    torch.testing.assert_close(decompose.direct(model, paths, [3, 1]), found[..., [3, 1]])


def _gains(model: VisionTransformer, layer: int) -> Tensor:
    scale = model.blocks[layer].layer_scale_1
    gain = torch.ones(48, dtype=torch.float64) if scale is None else scale
    if model.ensemble_scale is not None:
        gain = gain * model.ensemble_scale.alpha[2 * layer + 1]
    return gain


def test_heads_and_sources_by_hand(each_kind: VisionTransformer, x: Tensor) -> None:
    model, paths = _double(each_kind, x)
    layer, head, source = 1, 2, 3
    block = model.blocks[layer]
    q, k, v = block.self_attention.project(block.ln_1(paths.states[layer]))
    weights = (q @ k.transpose(2, 3) / 4).softmax(dim=-1)
    output = block.self_attention.out_proj.weight[:, 32:48] * _gains(model, layer)[:, None]
    from_source = weights[:, head, :, source, None] * v[:, head, source, None]
    write, part = weights[:, head] @ v[:, head] @ output.T, from_source @ output.T
    found = decompose.head_direct(model, paths)[layer, head]
    torch.testing.assert_close(found, _share(model, write, paths.final))
    found = decompose.head_source_direct(model, paths, layer)[head, source]
    torch.testing.assert_close(found, _share(model, part, paths.final))


def test_heads_sources_and_bias_add_up(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    heads = decompose.head_direct(each_kind, paths)
    sources = decompose.source_direct(each_kind, paths)
    both = heads.sum(dim=1) + decompose.bias_direct(each_kind, paths)
    attention = decompose.direct(each_kind, paths)[1:-1:2]
    torch.testing.assert_close(both, attention, rtol=0, atol=5e-6)
    torch.testing.assert_close(sources.sum(dim=1), heads.sum(dim=1), rtol=0, atol=5e-6)
    for layer in range(4):
        one = decompose.head_source_direct(each_kind, paths, layer, [7])
        torch.testing.assert_close(one.sum(dim=1), heads[layer, ..., [7]], rtol=0, atol=5e-6)
        torch.testing.assert_close(one.sum(dim=0), sources[layer, ..., [7]], rtol=0, atol=5e-6)
    only = decompose.source_direct(each_kind, paths, [7])
    torch.testing.assert_close(only, sources[..., [7]], rtol=0, atol=5e-6)


@pytest.mark.parametrize("kind", ["norm after average", "norm before average", "no class token"])
def test_maps_of_all_paths_where_patches_are_averaged(network: Maker, x: Tensor, kind: str) -> None:
    model, paths = _double(network(kind), x)
    maps = decompose.token_map(model, paths, 4)
    assert maps.shape == (9, 2, 16)
    torch.testing.assert_close(maps.sum(dim=-1), decompose.direct(model, paths)[:-1, :, 4])
    alone = torch.zeros_like(paths.writes[3])
    alone[:, model.config.prefix + 5] = paths.writes[3][:, model.config.prefix + 5]
    torch.testing.assert_close(maps[3, :, 5], _share(model, alone, paths.final)[:, 4])


def test_a_tanh_in_the_head_ends_the_sum_before_it(network: Maker, x: Tensor) -> None:
    model = network("tanh")
    paths = collect(model, x)
    assert paths.unit == "pre_logits" and paths.observed.shape == (2, 20)
    with torch.no_grad():
        before = model.heads.pre_logits(model.encoder.ln(paths.final[:, 0]))
        torch.testing.assert_close(paths.observed, before)
        torch.testing.assert_close(model.heads.head(before.tanh()), paths.logits)
    assert collect(network(), x).unit == "logits"


def test_each_module_runs_once_and_no_attention_matrix_is_formed(
    network: Maker, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("msa", "ffn"):
        plain = getattr(Block, name)

        def counted(self: Block, z: Tensor, name: str = name, plain: object = plain) -> Tensor:
            calls.append(name)
            return plain(self, z)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(Block, name, counted)

    def refuse(*_: object) -> Tensor:
        raise AssertionError("an attention matrix was formed")

    monkeypatch.setattr(SelfAttention, "weights", refuse)
    model = network()
    paths = collect(model, x)
    assert calls == ["msa", "ffn"] * 4
    decompose.direct(model, paths)
    decompose.head_direct(model, paths)
    decompose.bias_direct(model, paths)
    intervene.removed_final(model, paths)
    assert len(calls) == 8
    intervene.total(model, paths, "total_head")
    with pytest.raises(AssertionError, match="was formed"):
        decompose.source_direct(model, paths)


def test_networks_that_cannot_be_split_are_named(network: Maker, x: Tensor) -> None:
    paths = collect(network(), x)
    for run in (lambda m: collect(m, x), lambda m: decompose.direct(m, paths)):
        with pytest.raises(NotDecomposableError, match="Sequential cannot be split into paths"):
            run(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(NotDecomposableError, match=r"call eval\(\) first"):
        collect(network().train(), x)
    with pytest.raises(NotDecomposableError, match="float16"):
        collect(network().half(), x)
    zero = network("distilled")
    nn.init.zeros_(zero.heads.head.weight)
    assert decompose.residual(zero, collect(zero, x)) < 5e-6
    nn.init.zeros_(zero.heads.head_dist.weight)  # type: ignore[arg-type]
    with pytest.raises(NotDecomposableError, match="every share is 0"):
        decompose.direct(zero, collect(zero, x))
    with pytest.raises(NotDecomposableError, match="reads the class token alone"):
        decompose.token_map(network(), paths, 0)


def test_bad_input_is_named(network: Maker, x: Tensor) -> None:
    model = network()
    with pytest.raises(ValueError, match="images of 3 x 16 x 16; got 3 x 8 x 16: resize"):
        collect(model, x[:, :, :8])
    with pytest.raises(ValueError, match="at least one image of float32; got 0"):
        collect(model, x[:0])
    with pytest.raises(ValueError, match=r"float32; got 2 of torch\.uint8"):
        collect(model, x.byte())
    with pytest.raises(ValueError, match="not finite"):
        collect(model, x * torch.nan)
    paths = collect(model, x)
    with pytest.raises(ValueError, match="no class 10; choose from 0 to 9"):
        decompose.direct(model, paths, [10])
    with pytest.raises(ValueError, match="no layer -1; choose from 0 to 3"):
        decompose.head_source_direct(model, paths, -1)


def test_cancelling_stops_between_modules(network: Maker, x: Tensor) -> None:
    token = CancelToken()
    model = network()

    class Once(Context):
        checks = 0

        def check(self) -> None:
            super().check()
            self.checks += 1
            if self.checks == 3:
                token.cancel()

    context = Once(token=token)
    with pytest.raises(Cancelled):
        collect(model, x, context)
    assert context.checks == 3


def test_reduced_precision_around_it_changes_nothing(network: Maker, x: Tensor) -> None:
    model = network()
    plain = collect(model, x).logits
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(collect(model, x).logits, plain)
    with torch.inference_mode():
        assert torch.equal(collect(model, x).logits, plain)


def test_tf32_is_switched_off_and_back(network: Maker, x: Tensor) -> None:
    seen: list[tuple[bool, bool]] = []

    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    class Looking(Context):
        def check(self) -> None:
            seen.append(flags())
            raise Cancelled

    before = flags()
    assert before[1]
    with pytest.raises(Cancelled):
        collect(network(), x, Looking())
    assert seen == [(False, False)] and flags() == before
