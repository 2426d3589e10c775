"""Paths left out of the final sum: ranked, pruned, undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths import combine, intervene, rows
from napari_cvsuite.paths.combine import Pruning, Rows, cache_rows, greedy_prune, rank_paths
from napari_cvsuite.paths.decompose import NotDecomposableError, collect

Maker = Callable[..., VisionTransformer]


@pytest.fixture
def images() -> Tensor:
    return torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(12) % 10


def _cached(model: VisionTransformer, images: Tensor, labels: Tensor) -> Rows:
    return cache_rows(model, [(images[:5], labels[:5]), (images[5:], labels[5:])])


def _loss(model: VisionTransformer, images: Tensor, labels: Tensor, off: list[int]) -> float:
    """Mean cross-entropy with paths out of the final sum, from a run of its own."""
    paths = collect(model, images)
    kept = [write for number, write in enumerate(paths.writes) if number not in off]
    with torch.no_grad():
        return float(F.cross_entropy(model.classify(sum(kept)), labels))  # type: ignore[arg-type]


def test_cached_rows_give_the_logits(
    each_kind: VisionTransformer, images: Tensor, labels: Tensor
) -> None:
    cached = _cached(each_kind, images, labels)
    config = each_kind.config
    count = 16 if config.pool == "avg_norm_before" else 1
    assert cached.values.shape == (9, 12, 1 + config.distilled, count, 48) and len(cached) == 12
    with torch.no_grad():
        expected = each_kind(images)
    torch.testing.assert_close(combine.logits_of(each_kind, cached), expected, rtol=0, atol=1e-5)
    found = combine.score(each_kind, cached)
    assert found.loss == pytest.approx(float(F.cross_entropy(expected, labels)), abs=1e-5)
    assert found.accuracy == pytest.approx(float((expected.argmax(1) == labels).float().mean()))
    assert found.images == 12


def test_large_sets_are_worked_on_in_parts(
    network: Maker, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network("norm before average")
    cached = _cached(model, images, labels)
    alpha = torch.linspace(0.5, 1.5, 9)
    whole = [
        combine.logits_of(model, cached, alpha),
        combine.final_from_layer(model, cached),
        combine.fit_scale(model, cached, steps=2).alpha,
    ]
    pruned = greedy_prune(model, cached).removed
    monkeypatch.setattr(rows, "_CHUNK", 5 * cached.values[:, 0].numel() * 4)
    assert [part for part in rows.chunks(cached)] == [slice(0, 5), slice(5, 10), slice(10, 15)]
    again = [
        combine.logits_of(model, cached, alpha),
        combine.final_from_layer(model, cached),
        combine.fit_scale(model, cached, steps=2).alpha,
    ]
    for before, after in zip(whole, again, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert greedy_prune(model, cached).removed == pruned


def test_final_sum_from_a_layer_on(network: Maker, images: Tensor, labels: Tensor) -> None:
    model = network("norm before average")
    found = combine.final_from_layer(model, _cached(model, images, labels))
    paths = collect(model, images)
    for k, off in enumerate(([], [0], [0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6])):
        expected = intervene.removed_final_set(model, paths, off)
        torch.testing.assert_close(found[k], expected, rtol=1e-4, atol=1e-5)
    assert len(found) == 5


@pytest.mark.parametrize("kind", ["plain", "distilled", "norm before average"])
def test_ranking_by_what_removal_does(
    network: Maker, images: Tensor, labels: Tensor, kind: str
) -> None:
    model = network(kind)
    ranked = rank_paths(model, _cached(model, images, labels))
    start = _loss(model, images, labels, [])
    changes = [_loss(model, images, labels, [number]) - start for number in range(9)]
    assert [one.number for one in ranked] == sorted(range(9), key=changes.__getitem__)
    for one in ranked:
        assert one.loss == pytest.approx(changes[one.number], abs=1e-5)
    by_accuracy = rank_paths(model, _cached(model, images, labels), "accuracy")
    gains = [one.accuracy for one in by_accuracy]
    assert gains == sorted(gains, reverse=True)
    removed = intervene.removed_final(model, collect(model, images))
    right = (removed.argmax(dim=-1) == labels).float().mean(dim=1)
    base = float((model(images).argmax(dim=-1) == labels).float().mean())
    for one in by_accuracy:
        assert one.accuracy == pytest.approx(float(right[one.number]) - base, abs=1e-6)


@pytest.mark.parametrize("kind", ["plain", "distilled", "norm after average"])
def test_greedy_pruning_by_hand(network: Maker, images: Tensor, labels: Tensor, kind: str) -> None:
    model, off = network(kind), []
    held = cache_rows(model, [(images[:4], labels[:4])])
    pruning = greedy_prune(model, _cached(model, images, labels), held)
    best = _loss(model, images, labels, [])
    assert pruning.start.loss == pytest.approx(best, abs=1e-5)
    while len(off) < 8:
        left = [number for number in range(9) if number not in off]
        trials = {number: _loss(model, images, labels, [*off, number]) for number in left}
        number = min(trials, key=trials.__getitem__)
        if trials[number] >= best:
            break
        best = trials[number]
        off.append(number)
    assert pruning.removed == off and len(off) >= 2
    assert pruning.now.loss == pytest.approx(best, abs=1e-5)
    last = pruning.steps[-1].held_out
    assert last is not None and last.images == 4
    assert last.loss == pytest.approx(_loss(model, images[:4], labels[:4], off), abs=1e-5)
    pruned = combine.with_scale(model, pruning.alpha, "final")
    with torch.no_grad():
        assert float(F.cross_entropy(pruned(images), labels)) == pytest.approx(best, abs=1e-5)


def test_steps_can_be_made_by_hand_and_undone(
    network: Maker, images: Tensor, labels: Tensor
) -> None:
    model = network()
    pruning = Pruning(model, _cached(model, images, labels))
    step = pruning.remove(7)
    assert step.held_out is None and pruning.removed == [7]
    assert step.selection.loss == pytest.approx(_loss(model, images, labels, [7]), abs=1e-5)
    pruning.remove(0)
    assert pruning.kept == [1, 2, 3, 4, 5, 6, 8]
    assert pruning.alpha.tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 1]
    undone = pruning.undo()
    assert undone is not None and undone.number == 0
    assert pruning.removed == [7] and pruning.now == step.selection
    assert pruning.undo() == step and pruning.undo() is None
    assert pruning.now == pruning.start and pruning.kept == list(range(9))
    with pytest.raises(ValueError, match="path 9 is not in the sum"):
        pruning.remove(9)
    for number in range(8):
        pruning.remove(number)
    with pytest.raises(ValueError, match="last path of the sum has to stay"):
        pruning.remove(8)
    assert pruning.step() is None


def test_ties_go_to_the_lower_number(network: Maker) -> None:
    # Paths 2 and 5 write the same harmful thing, the rest nothing but path 8.
    model = network()
    with torch.no_grad():
        towards = model.heads.head.weight
        values = torch.zeros(9, 3, 1, 1, 48)
        values[8] = towards[4]
        values[2] = values[5] = 2 * towards[1]
    both = greedy_prune(model, Rows(values, torch.tensor([4, 4, 4])))
    assert both.removed[:2] == [2, 5]
    ranked = rank_paths(model, Rows(values, torch.tensor([4, 4, 4])))
    assert [one.number for one in ranked[:2]] == [2, 5]


def test_memory_has_a_limit(network: Maker, images: Tensor, labels: Tensor) -> None:
    model, each = network("norm before average"), 9 * 16 * 48 * 4
    batches = [(images[:6], labels[:6]), (images[6:], labels[6:])]
    assert len(cache_rows(model, batches, limit=12 * each)) == 12
    message = f"0.03 MiB an image.*at most {11} images"
    with pytest.raises(combine.RowsMemoryError, match=message):
        cache_rows(model, batches, limit=12 * each - 1)


def test_bad_sets_are_named(network: Maker, images: Tensor, labels: Tensor) -> None:
    model = network()
    with pytest.raises(ValueError, match="there are no images"):
        cache_rows(model, [])
    with pytest.raises(ValueError, match="one whole number as label for each of 12"):
        cache_rows(model, [(images, labels.float())])
    with pytest.raises(ValueError, match="one whole number as label for each of 12"):
        cache_rows(model, [(images, labels[:3])])
    with pytest.raises(ValueError, match="some have none"):
        cache_rows(model, [(images[:3], labels[:3]), (images[3:], None)])
    unlabelled = cache_rows(model, [(images, None)])
    assert combine.final_from_layer(model, unlabelled).shape == (5, 12, 10)
    for run in (rank_paths, greedy_prune, combine.fit_scale, combine.score):
        with pytest.raises(ValueError, match="one folder a class"):
            run(model, unlabelled)  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"must lie in 0\.\.9; got 5\.\.14"):
            run(model, Rows(unlabelled.values, labels + 5))  # type: ignore[operator]
    with pytest.raises(ValueError, match="no ranking 'size'; choose one of loss, accuracy"):
        rank_paths(model, unlabelled, "size")
    single = network(num_classes=1)
    one = cache_rows(single, [(images, torch.zeros_like(labels))])
    with pytest.raises(ValueError, match="one class is always right"):
        greedy_prune(single, one)
    with pytest.raises(NotDecomposableError, match="Linear cannot"):
        greedy_prune(nn.Linear(2, 2), one)


def test_cancelling(network: Maker, images: Tensor, labels: Tensor) -> None:
    model = network()
    cached = _cached(model, images, labels)
    token = CancelToken()
    stop = Context(token=token, on_progress=lambda one: token.cancel() if one.done == 1 else None)
    with pytest.raises(Cancelled):
        cache_rows(model, [(images[:5], None), (images[5:], None)], stop)
    for run in (rank_paths, greedy_prune, combine.fit_scale):
        with pytest.raises(Cancelled):
            run(model, cached, context=stop)  # type: ignore[operator]
