"""Attention, relevance, predictions by depth, likeness and norms, written out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths import views
from napari_cvsuite.paths.decompose import NotDecomposableError, collect

Maker = Callable[..., VisionTransformer]


def _read(model: VisionTransformer, matrix: Tensor) -> Tensor:
    """Return the mean row over the tokens that the classifier reads, of the patches."""
    config = model.config
    if config.pool == "token":
        rows = matrix[:, : 1 + config.distilled]
    else:
        rows = matrix[:, config.prefix :]
    return rows.mean(dim=1)[:, config.prefix :]


def test_attention_gives_what_the_layer_writes(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    for layer, block in enumerate(each_kind.blocks):
        found = views.attention(each_kind, paths, layer)
        torch.testing.assert_close(found.sum(dim=-1), torch.ones(found.shape[:-1]))
        with torch.no_grad():
            _, _, v = block.self_attention.project(block.ln_1(paths.states[layer]))
            write = block.scaled_msa(block.self_attention.merge(found @ v))
        torch.testing.assert_close(write, paths.raw[2 * layer + 1], rtol=1e-4, atol=1e-5)


def test_attention_of_the_class_token(network: Maker, x: Tensor) -> None:
    model = network("registers")
    paths = collect(model, x)
    found = views.cls_attention(model, paths)
    assert found.shape == (4, 2, 3, 16)
    assert torch.equal(found[2], views.attention(model, paths, 2)[:, :, 0, 4:])
    with pytest.raises(ValueError, match="no class token"):
        views.cls_attention(network("no class token"), paths)
    with pytest.raises(ValueError, match="no layer 4; choose from 0 to 3"):
        views.attention(model, paths, 4)


def test_rollout_with_whole_matrices(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    tokens = each_kind.config.tokens
    product = torch.eye(tokens).expand(2, -1, -1)
    for layer in range(4):
        mean = views.attention(each_kind, paths, layer).mean(dim=1)
        product = (0.5 * mean + 0.5 * torch.eye(tokens)) @ product
    torch.testing.assert_close(product.sum(dim=-1), torch.ones(2, tokens))
    found = views.rollout(each_kind, paths)
    torch.testing.assert_close(found, _read(each_kind, product))


@pytest.mark.parametrize("classes", [None, 4, [4, 0]])
def test_relevance_with_whole_matrices(
    each_kind: VisionTransformer, x: Tensor, classes: int | list[int] | None
) -> None:
    """The gradient of the attention is taken from a perturbation added to it."""
    model = each_kind
    zeros = [
        torch.zeros(2, 3, model.config.tokens, model.config.tokens, requires_grad=True)
        for _ in model.blocks
    ]
    matrices = []
    stream = model.start(model.embed(x))
    for layer, block in enumerate(model.blocks):
        q, k, v = block.self_attention.project(block.ln_1(stream.z))
        matrices.append(block.self_attention.weights(q, k) + zeros[layer])
        write = block.scaled_msa(block.self_attention.merge(matrices[-1] @ v))
        stream = model.add(stream, 2 * layer + 1, write)
        stream = model.add(stream, 2 * layer + 2, block.ffn(stream.z))
    logits = model.classify(stream.final)
    named = logits.argmax(dim=1).tolist() if classes is None else classes
    first, second = (named, named) if isinstance(named, int) else named
    (logits[0, first] + logits[1, second]).backward()  # type: ignore[no-untyped-call]
    product = torch.eye(model.config.tokens).expand(2, -1, -1)
    for matrix, zero in zip(matrices, zeros, strict=True):
        assert zero.grad is not None
        product = product + (matrix.detach() * zero.grad).clamp_min(0).mean(dim=1) @ product
    found = views.chefer(model, x, classes)
    assert found.min() >= 0 and found.max() > 0
    torch.testing.assert_close(found, _read(model, product), rtol=1e-3, atol=1e-5)
    with torch.inference_mode():
        again = views.chefer(model, x + 0, classes)
    torch.testing.assert_close(again, found)


def test_predictions_by_depth(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    found = views.logit_lens(each_kind, paths)
    assert torch.equal(found[-1], paths.logits)
    for depth in range(5):
        with torch.no_grad():
            sums = sum(paths.writes[: 2 * depth + 1])
            expected = each_kind.classify(sums)  # type: ignore[arg-type]
        torch.testing.assert_close(found[depth], expected, rtol=1e-4, atol=1e-5)


def test_likeness(network: Maker, x: Tensor) -> None:
    model = network("registers")
    paths = collect(model, x)
    found = views.similarity(model, paths)
    z = paths.states[3][1]
    expected = z[4 + 6] @ z[0] / (z[4 + 6].norm() * z[0].norm())
    assert float(found[3, 1, 6]) == pytest.approx(float(expected), abs=1e-6)
    found = views.similarity(model, paths, patch=6)
    assert found.shape == (5, 2, 16)
    torch.testing.assert_close(found[:, :, 6], torch.ones(5, 2))
    expected = z[4 + 2] @ z[4 + 6] / (z[4 + 2].norm() * z[4 + 6].norm())
    assert float(found[3, 1, 2]) == pytest.approx(float(expected), abs=1e-6)
    bare = network("no class token")
    assert views.similarity(bare, collect(bare, x), patch=0).shape == (5, 2, 16)
    with pytest.raises(ValueError, match="no class token; choose a patch"):
        views.similarity(bare, collect(bare, x))
    with pytest.raises(ValueError, match="no patch 16; choose from 0 to 15"):
        views.similarity(model, paths, patch=16)


def test_norms(network: Maker, x: Tensor) -> None:
    model = network("norm before average")
    paths = collect(model, x)
    found = views.token_norm(model, paths)
    assert found.shape == (5, 2, 16)
    expected = float((paths.states[2][1, 3 + 5] ** 2).sum().sqrt())
    assert float(found[2, 1, 5]) == pytest.approx(expected, rel=1e-6)
    norm = views.path_norm(model, paths)
    assert norm.shape == (9, 2)
    expected = float((paths.writes[4][0, 3:].mean(dim=0) ** 2).sum().sqrt())
    assert float(norm[4, 0]) == pytest.approx(expected, rel=1e-5)
    plain = network()
    paths = collect(plain, x)
    expected = float((paths.writes[4][0, 0] ** 2).sum().sqrt())
    assert float(views.path_norm(plain, paths)[4, 0]) == pytest.approx(expected, rel=1e-5)


def test_bad_requests_are_named(network: Maker, x: Tensor) -> None:
    model = network()
    with pytest.raises(ValueError, match="no class 10; choose from 0 to 9"):
        views.chefer(model, x, 10)
    with pytest.raises(ValueError, match="one class, or one for each of 2 images"):
        views.chefer(model, x, [1, 2, 3])
    with pytest.raises(NotDecomposableError, match="Linear cannot"):
        views.chefer(nn.Linear(2, 2), x)
    with pytest.raises(ValueError, match="resize them"):
        views.chefer(model, x[..., :8])


def test_cancelling(network: Maker, x: Tensor) -> None:
    token = CancelToken()
    token.cancel()
    model = network()
    for run in (
        lambda: views.chefer(model, x, context=Context(token=token)),
        lambda: views.rollout(model, collect(model, x), Context(token=token)),
    ):
        with pytest.raises(Cancelled):
            run()
