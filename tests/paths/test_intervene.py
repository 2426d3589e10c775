"""Interventions against the naive way: the whole network anew for each."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.models.vit import Block, VisionTransformer
from napari_cvsuite.paths import intervene
from napari_cvsuite.paths.decompose import NotDecomposableError, collect, direct
from napari_cvsuite.paths.replace import Replacement, mean_replacement, writes_of

Maker = Callable[..., VisionTransformer]
Write = Callable[[int, Tensor], Tensor]


@torch.no_grad()
def _naive(
    model: VisionTransformer,
    x: Tensor,
    off: Collection[int],
    write: Write | None = None,
    unseen: Collection[int] = (),
) -> Tensor:
    """Run a network with some writes replaced; `unseen` ones only after their layer."""
    write = write or (lambda _, made: torch.zeros_like(made))
    tokens = model.embed(x)
    stream = model.start(write(0, tokens) if 0 in off else tokens)
    for layer, block in enumerate(model.blocks):
        msa, ffn = 2 * layer + 1, 2 * layer + 2
        made = block.msa(stream.z)
        seen = model.add(stream, msa, made)
        stream = model.add(stream, msa, write(msa, made) if msa in off else made)
        made = block.ffn(seen.z if msa in unseen else stream.z)
        stream = model.add(stream, ffn, write(ffn, made) if ffn in off else made)
    return model.classify(stream.final)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the modules that were run."""
    found: list[str] = []
    for name in ("msa", "ffn"):
        plain = getattr(Block, name)

        def counted(self: Block, z: Tensor, name: str = name, plain: object = plain) -> Tensor:
            found.append(name)
            return plain(self, z)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(Block, name, counted)
    return found


def test_cached_totals_are_the_naive_ones_bit_for_bit(
    each_kind: VisionTransformer, x: Tensor
) -> None:
    model, paths = each_kind, collect(each_kind, x)
    found = {kind: intervene.total(model, paths, kind) for kind in intervene.TOTALS}
    for number in range(1, 9):
        assert torch.equal(found["total_module"][number - 1], _naive(model, x, [number]))
    for layer in range(4):
        msa, ffn = 2 * layer + 1, 2 * layer + 2
        edge = _naive(model, x, [msa], unseen=[msa])
        assert torch.equal(found["total_edge"][layer], edge)
        assert torch.equal(found["total_layer"][layer], _naive(model, x, [msa, ffn]))
    assert not torch.equal(found["total_edge"][0], found["total_module"][0])


@torch.no_grad()
def _head_write(model: VisionTransformer, layer: int, head: int, z: Tensor) -> Tensor:
    """Return what one head writes for a stream, LayerScale applied, without the output bias."""
    block, width = model.blocks[layer], 16
    attention = block.self_attention
    q, k, v = attention.project(block.ln_1(z))
    mixed = ((q[:, head] @ k[:, head].transpose(1, 2)) / width**0.5).softmax(-1) @ v[:, head]
    write = F.linear(mixed, attention.out_proj.weight[:, head * width : (head + 1) * width])
    return write if block.layer_scale_1 is None else write * block.layer_scale_1


@pytest.mark.parametrize("kind", ["plain", "layer scale", "weighed at the end", "distilled"])
def test_heads_by_what_they_write(network: Maker, x: Tensor, kind: str) -> None:
    model = network(kind)
    others = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    paths, other = collect(model, x), collect(model, others)
    zero = intervene.total(model, paths, "total_head")
    replacement = mean_replacement(model, [others[:2], others[2:]], heads=True)
    mean = intervene.total(model, paths, "total_head", replacement)
    assert zero.shape == (4, 3, 2, 10) and replacement.images == 3
    for layer in (0, 3):
        path = 2 * layer + 1
        own = _head_write(model, layer, 1, paths.states[layer])
        theirs = _head_write(model, layer, 1, other.states[layer]).mean(dim=0)
        without = _naive(model, x, [path], lambda _, made, own=own: made - own)
        torch.testing.assert_close(zero[layer, 1], without, rtol=1e-4, atol=1e-5)
        instead = _naive(model, x, [path], lambda _, made, o=own, t=theirs: made - o + t)
        torch.testing.assert_close(mean[layer, 1], instead, rtol=1e-4, atol=1e-5)


def test_a_head_that_writes_its_own_changes_nothing(network: Maker, x: Tensor) -> None:
    model = network()
    paths = collect(model, x)
    own = writes_of(model, paths, heads=True)
    for kind in intervene.TOTALS:
        logits = intervene.total(model, paths, kind, own)
        torch.testing.assert_close(logits, paths.logits.expand_as(logits), rtol=0, atol=5e-6)


@pytest.mark.parametrize("kind", ["plain", "weighed at the end", "weighed stream"])
def test_writes_of_other_images(network: Maker, x: Tensor, kind: str) -> None:
    model = network(kind)
    paths, swapped = collect(model, x), collect(model, x.flip(0))
    other = writes_of(model, swapped)
    found = intervene.total(model, paths, "total_module", other)
    mean = mean_replacement(model, [x])
    averaged = intervene.total(model, paths, "total_layer", mean)
    for number in (1, 4, 8):
        naive = _naive(model, x, [number], lambda path, _: swapped.raw[path])
        assert torch.equal(found[number - 1], naive)
    naive = _naive(model, x, [3, 4], lambda path, _: paths.raw[path].mean(0, keepdim=True))
    torch.testing.assert_close(averaged[1], naive, rtol=1e-5, atol=1e-5)


def test_how_many_modules_run(network: Maker, x: Tensor, calls: list[str]) -> None:
    model = network(num_layers=12)
    paths = collect(model, x)
    intervene.total(model, paths, "total_module")
    assert (calls.count("msa"), calls.count("ffn")) == (144, 156)
    calls.clear()
    intervene.total(model, paths, "total_edge")
    # The feed-forward network of the layer has seen nothing new.
    assert (calls.count("msa"), calls.count("ffn")) == (66, 66)
    for number in range(1, 25):
        calls.clear()
        intervene.one_total(model, paths, "total_module", number)
        assert len(calls) == 24 - number
    calls.clear()
    intervene.switched_off(model, paths, {5, 7, 8})
    assert len(calls) == 24 - 5 - 2
    calls.clear()
    intervene.removed_final_set(model, paths, {5, 7, 8})
    intervene.removed_final(model, paths)
    assert not calls


def test_a_growing_batch_agrees(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    for kind in intervene.TOTALS:
        cached = intervene.total(each_kind, paths, kind)
        grown = intervene.total(each_kind, paths, kind, grow=True)
        torch.testing.assert_close(grown, cached, rtol=1e-6, atol=2.6e-6)


def test_a_growing_batch_runs_each_module_once(network: Maker, x: Tensor, calls: list[str]) -> None:
    model = network()
    paths = collect(model, x)
    calls.clear()
    intervene.total(model, paths, "total_module", grow=True)
    assert (calls.count("msa"), calls.count("ffn")) == (3, 4)


def test_one_total_is_a_row_of_all(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    found = {kind: intervene.total(each_kind, paths, kind) for kind in intervene.TOTALS}

    def one(kind: str, number: int, head: int | None = None) -> Tensor:
        return intervene.one_total(each_kind, paths, kind, number, head)

    for number in range(1, 9):
        assert torch.equal(one("total_module", number), found["total_module"][number - 1])
        layer = (number - 1) // 2
        assert torch.equal(one("total_layer", number), found["total_layer"][layer])
    assert torch.equal(one("total_edge", 5), found["total_edge"][2])
    assert torch.equal(one("total_head", 5, 1), found["total_head"][2, 1])


def test_several_paths_off(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    for off in ({0}, {1}, {2, 3}, {0, 4, 8}, {7}, set(range(9))):
        naive = _naive(each_kind, x, off)
        assert torch.equal(intervene.switched_off(each_kind, paths, off), naive)
    assert intervene.switched_off(each_kind, paths, ()) is paths.logits
    other = collect(each_kind, x.flip(0))
    swapped = writes_of(each_kind, other)
    naive = _naive(each_kind, x, {0, 3}, lambda path, _: other.raw[path])
    assert torch.equal(intervene.switched_off(each_kind, paths, {0, 3}, swapped), naive)


def test_paths_out_of_the_final_sum(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    found = intervene.removed_final(each_kind, paths)
    for number in range(9):
        with torch.no_grad():
            logits = each_kind.classify(paths.final - paths.writes[number])
        torch.testing.assert_close(found[number], logits, rtol=1e-5, atol=1e-5)
        alone = intervene.removed_final_set(each_kind, paths, [number])
        torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        logits = each_kind.classify(paths.final - paths.writes[2] - paths.writes[7])
    both = intervene.removed_final_set(each_kind, paths, {2, 7})
    torch.testing.assert_close(both, logits, rtol=1e-4, atol=1e-5)
    assert intervene.removed_final_set(each_kind, paths, []) is paths.logits


def test_without_any_path_the_constant_is_left(network: Maker, x: Tensor) -> None:
    model = network("distilled")
    paths = collect(model, x)
    left = intervene.removed_final_set(model, paths, range(9))
    torch.testing.assert_close(left, direct(model, paths)[-1])


def test_the_estimate_is_the_slope_by_the_weights_of_the_paths(network: Maker, x: Tensor) -> None:
    weighed = network(ensemble_scale="scalar", placement="stream")
    nn.init.ones_(weighed.ensemble_scale.alpha)  # type: ignore[union-attr]
    plain = network()
    plain.load_state_dict(weighed.state_dict(), strict=False)
    found = intervene.attribution_patching(plain, x)
    alpha = weighed.ensemble_scale.alpha.requires_grad_()  # type: ignore[union-attr]
    logits = weighed(x)
    slopes = torch.stack(
        [torch.autograd.grad(one, alpha, retain_graph=True)[0] for row in logits for one in row]
    )
    slopes = slopes.view(2, 10, 9).permute(2, 0, 1)
    assert (found - slopes).abs().max() <= 1e-4 * slopes.abs().max()
    torch.testing.assert_close(found, slopes, rtol=1e-3, atol=1e-4)


def test_the_estimate_of_some_classes_in_inference_mode(
    each_kind: VisionTransformer, x: Tensor
) -> None:
    found = intervene.attribution_patching(each_kind, x, [6, 2])
    assert found.shape == (9, 2, 2) and found.abs().max() > 0
    with torch.inference_mode():
        again = intervene.attribution_patching(each_kind, x + 0, [6, 2])
    torch.testing.assert_close(again, found)


def test_the_estimate_is_right_for_small_changes(network: Maker, x: Tensor) -> None:
    model = network("weighed at the end").double()
    x = x.double()
    step, found = 1e-5, intervene.attribution_patching(model, x)
    for number in (0, 1, 6):
        up, down = (
            _naive(model, x, [number], lambda _, made, by=by: made * by)
            for by in (1 + step, 1 - step)
        )
        torch.testing.assert_close(found[number], (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


def test_progress_and_cancelling(network: Maker, x: Tensor) -> None:
    model = network()
    paths = collect(model, x)
    for grow in (False, True):
        seen: list[Progress] = []
        context = Context(on_progress=seen.append)
        intervene.total(model, paths, "total_module", context=context, grow=grow)
        assert [(one.done, one.total) for one in seen] == [(done, 8) for done in range(8)]
    token = CancelToken()
    stop = Context(token=token, on_progress=lambda one: token.cancel() if one.done == 3 else None)
    with pytest.raises(Cancelled):
        intervene.total(model, paths, "total_module", context=stop)
    for run in (
        lambda: intervene.attribution_patching(model, x, context=stop),
        lambda: intervene.switched_off(model, paths, [1], context=stop),
    ):
        with pytest.raises(Cancelled):
            run()


def test_bad_requests_are_named(network: Maker, x: Tensor) -> None:
    model = network()
    paths = collect(model, x)
    with pytest.raises(ValueError, match="no total effect 'removed_final'; choose one of total_e"):
        intervene.total(model, paths, "removed_final")
    for number in (-1, 9):
        with pytest.raises(ValueError, match=f"no path {number}; choose from 0 to 8"):
            intervene.switched_off(model, paths, [number])
        with pytest.raises(ValueError, match=f"no path {number}; choose from 0 to 8"):
            intervene.removed_final_set(model, paths, [number])
    with pytest.raises(ValueError, match="needs an attention path such as msa_0; got ffn_1"):
        intervene.one_total(model, paths, "total_edge", 4)
    with pytest.raises(ValueError, match="got embed"):
        intervene.one_total(model, paths, "total_layer", 0)
    for head in (None, 3):
        with pytest.raises(ValueError, match=f"no head {head}; choose from 0 to 2"):
            intervene.one_total(model, paths, "total_head", 3, head)
    deeper = network(num_layers=5)
    other = writes_of(deeper, collect(deeper, x))
    with pytest.raises(ValueError, match="must hold 9 writes of 1 or 2 x 17 x 48"):
        intervene.total(model, paths, "total_module", other)
    three = writes_of(model, collect(model, torch.cat([x, x[:1]])))
    with pytest.raises(ValueError, match="9 writes of 1 or 2"):
        intervene.switched_off(model, paths, [1], three)
    with pytest.raises(ValueError, match="holds no heads; make it with heads=True"):
        intervene.total(model, paths, "total_head", writes_of(model, paths))
    whole = writes_of(model, paths, heads=True)
    broken = Replacement("image", whole.writes, whole.mixed[:3] if whole.mixed else None, 2)
    with pytest.raises(ValueError, match="make it with the same network"):
        intervene.total(model, paths, "total_head", broken)
    with pytest.raises(ValueError, match="reference set is empty"):
        mean_replacement(model, [])
    with pytest.raises(ValueError, match="no class 10"):
        intervene.attribution_patching(model, x, [10])
    with pytest.raises(NotDecomposableError, match="Linear cannot be split"):
        intervene.removed_final(nn.Linear(2, 2), paths)
