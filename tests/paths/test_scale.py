"""EnsembleScale: fitted, put into a network, folded into its weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths import combine
from napari_cvsuite.paths.combine import Rows, fit_scale, folded, logits_of, with_scale
from napari_cvsuite.paths.decompose import collect
from napari_cvsuite.paths.reading import NotDecomposableError
from napari_cvsuite.paths.scale import RATE

Maker = Callable[..., VisionTransformer]
SCALAR = torch.linspace(0.5, 1.5, 9)
CHANNEL = 1 + 0.5 * torch.sin(torch.arange(9.0)[:, None] + 0.4 * torch.arange(48.0))


@torch.no_grad()
def _logits(model: VisionTransformer, x: Tensor) -> Tensor:
    logits: Tensor = model(x)
    return logits


def _labelled(model: VisionTransformer, count: int, seed: int) -> Rows:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 16, 16, generator=draw)
    labels = torch.randint(10, (count,), generator=draw)
    return combine.cache_rows(model, [(images, labels)])


@pytest.mark.parametrize("placement", ["final", "stream"])
def test_ones_change_nothing(network: Maker, x: Tensor, placement: str) -> None:
    for kind in ("plain", "distilled", "norm before average", "tanh"):
        model = network(kind)
        for ones in (torch.ones(9), torch.ones(9, 48)):
            scaled = with_scale(model, ones, placement)
            torch.testing.assert_close(_logits(scaled, x), _logits(model, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [SCALAR, CHANNEL], ids=["scalar", "channel"])
@pytest.mark.parametrize(
    "kind", ["plain", "norm after average", "norm before average", "tanh", "weighed by channel"]
)
def test_weights_of_cached_rows_and_of_a_network_agree(
    network: Maker, x: Tensor, alpha: Tensor, kind: str
) -> None:
    model = network(kind)
    rows = combine.rows_from(model, collect(model, x))
    scaled = with_scale(model, alpha)
    expected = logits_of(model, rows, alpha)
    assert (expected - _logits(model, x)).abs().max() > 0.01
    torch.testing.assert_close(_logits(scaled, x), expected, rtol=1e-4, atol=1e-5)
    writes = zip(collect(model, x).writes, collect(scaled, x).writes, alpha, strict=True)
    for before, after, weight in writes:
        torch.testing.assert_close(after, before * weight)


def test_weights_multiply(network: Maker, x: Tensor) -> None:
    for placement in ("final", "stream"):
        plain = network("layer scale")
        once = with_scale(plain, SCALAR, placement)
        assert once.config.ensemble_scale == "scalar"
        twice = with_scale(once, CHANNEL, placement)
        assert twice.config.ensemble_scale == "channel"
        direct = with_scale(plain, SCALAR[:, None] * CHANNEL, placement)
        torch.testing.assert_close(_logits(twice, x), _logits(direct, x))
        again = with_scale(with_scale(plain, SCALAR, placement), SCALAR, placement)
        torch.testing.assert_close(again.state_dict()["ensemble_scale.alpha"], SCALAR**2)
    with pytest.raises(ValueError, match="in the stream already; fold"):
        with_scale(again, SCALAR, "final")


def test_the_network_is_copied(network: Maker, x: Tensor) -> None:
    model = network()
    before = _logits(model, x)
    for other in (with_scale(model, SCALAR), folded(model)):
        assert not other.training
        for parameter in other.parameters():
            parameter.data.zero_()
    assert torch.equal(_logits(model, x), before) and not hasattr(model.ensemble_scale, "alpha")


def test_bad_weights_are_named(network: Maker) -> None:
    model = network()
    for alpha in (torch.ones(8), torch.ones(9, 47), torch.ones(9, 48, 1)):
        with pytest.raises(ValueError, match="must have shape 9, or 9 x 48; got"):
            with_scale(model, alpha)
        with pytest.raises(ValueError, match="must have shape 9, or 9 x 48; got"):
            logits_of(model, _labelled(model, 2, 0), alpha)
    with pytest.raises(ValueError, match="one of final, stream; got 'middle'"):
        with_scale(model, SCALAR, "middle")
    for run in (folded, lambda one: with_scale(one, SCALAR)):
        with pytest.raises(NotDecomposableError, match="Linear cannot"):
            run(nn.Linear(2, 2))


@pytest.mark.parametrize("alpha", [SCALAR, CHANNEL], ids=["scalar", "channel"])
@pytest.mark.parametrize(
    "kind", ["plain", "layer scale", "distilled", "registers", "stem", "norm before average"]
)
def test_weights_of_the_stream_can_be_folded(
    network: Maker, x: Tensor, kind: str, alpha: Tensor
) -> None:
    scaled = with_scale(network(kind), alpha, "stream")
    made = folded(scaled)
    assert made.ensemble_scale is None and made.config == network(kind).config
    torch.testing.assert_close(_logits(made, x), _logits(scaled, x), rtol=1e-4, atol=1e-5)
    assert (_logits(made, x) - _logits(network(kind), x)).abs().max() > 0.01


def test_weights_of_the_final_sum_cannot_be_folded(network: Maker, x: Tensor) -> None:
    with pytest.raises(ValueError, match="later layers read the paths as they are"):
        folded(with_scale(network(), SCALAR))
    assert torch.equal(_logits(folded(network()), x), _logits(network(), x))


@pytest.mark.parametrize("kind", ["plain", "distilled", "norm before average"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_first_step_goes_against_the_gradient(
    network: Maker, kind: str, per_channel: bool
) -> None:
    model = network(kind)
    rows = _labelled(model, 20, 0)
    alpha = torch.ones((9, 48) if per_channel else (9,), requires_grad=True)
    F.cross_entropy(logits_of(model, rows, alpha), rows.labels).backward()  # type: ignore[no-untyped-call]
    fitted = fit_scale(model, rows, per_channel=per_channel, steps=1)
    assert fitted.best_step == 1
    # The first step of Adam has the length of its rate, whatever the gradient.
    assert alpha.grad is not None
    sure = alpha.grad.abs() > 1e-6
    assert sure.float().mean() > 0.9
    torch.testing.assert_close(
        fitted.alpha[sure], (1 - RATE * alpha.grad.sign())[sure], rtol=0, atol=1e-3
    )


def test_fitting_lowers_the_loss_and_keeps_its_best_step(network: Maker) -> None:
    model = network()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    rows = _labelled(model, 40, 0)
    scalar, channel = (fit_scale(model, rows, per_channel=one) for one in (False, True))
    for fitted in (scalar, channel):
        assert len(fitted.history) == 151
        losses = [moment.selection.loss for moment in fitted.history]
        assert fitted.best.selection.loss == min(losses) < fitted.start.selection.loss
        found = combine.score(model, rows, fitted.alpha)
        assert found.loss == pytest.approx(fitted.best.selection.loss, abs=1e-5)
        assert fitted.start.selection == combine.score(model, rows, torch.ones(9))
    assert channel.best.selection.loss < scalar.best.selection.loss
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)


def test_a_held_out_set_chooses_the_step_and_ends_the_fit(network: Maker) -> None:
    model = network()
    rows, held = _labelled(model, 20, 0), _labelled(model, 30, 1)
    fitted = fit_scale(model, rows, held, per_channel=True, rate=0.2, patience=5)
    losses = [moment.held_out.loss for moment in fitted.history if moment.held_out is not None]
    assert len(losses) == fitted.best_step + 6 < 151
    assert fitted.best.held_out is not None
    assert fitted.best.held_out.loss == min(losses)
    assert fitted.best.selection.loss <= fitted.start.selection.loss


def test_a_fit_that_only_makes_things_worse_ends_where_it_began(network: Maker) -> None:
    model = network()
    fitted = fit_scale(model, _labelled(model, 20, 0), rate=1e4, steps=3)
    assert fitted.best_step == 0 and torch.equal(fitted.alpha, torch.ones(9))
    assert all(one.selection.loss > fitted.start.selection.loss for one in fitted.history[1:])


def test_fitting_inside_inference_mode(network: Maker) -> None:
    model = network()
    with torch.inference_mode():
        rows = _labelled(model, 20, 0)
        fitted = fit_scale(model, rows, steps=5)
    assert fitted.best.selection.loss < fitted.start.selection.loss
