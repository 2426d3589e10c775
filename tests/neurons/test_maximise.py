"""Activation maximisation on networks whose best image is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.neurons.maximise import maximise
from napari_cvsuite.neurons.options import MaximiseOptions
from napari_cvsuite.neurons.target import Target

rule = load_rule("robust_cnn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Red(nn.Module):
    """Logits are the mean of red, and of green less blue."""

    def forward(self, x: Tensor) -> Tensor:
        red, green, blue = x.mean((2, 3)).unbind(1)
        return torch.stack([red, green - blue], 1)


@pytest.mark.parametrize("parameters", ["fourier", "pixels"])
def test_the_best_image_is_found(parameters: str) -> None:
    options = MaximiseOptions(size=16, steps=150, parameters=parameters)
    red = maximise(Red().eval(), Target(0), options)
    assert red.image.shape == (3, 16, 16) and red.image.min() >= 0 and red.image.max() <= 1
    # Adam sends a single pixel astray in the spectrum of an even image.
    assert float(red.image[0].median()) > 0.9 and red.scores[-1] > 0.8
    assert len(red.scores) == 151 and red.scores[-1] == pytest.approx(float(red.image[0].mean()))
    assert red.scores[0] == pytest.approx(0.5, abs=0.02)


def test_one_step_on_pixels_has_the_chosen_length() -> None:
    options = MaximiseOptions(size=8, steps=1, parameters="pixels", learning_rate=0.05)
    still = replace(options, learning_rate=1e-6)
    one, none = (maximise(Red().eval(), Target(0), each).image for each in (options, still))
    # Root mean square over all three colours, of which red alone moves.
    moved = one - none
    assert float((moved**2).mean().sqrt()) == pytest.approx(0.05, rel=1e-3)
    assert moved[1:].abs().max() == 0 and float(moved[0].std()) < 1e-6


def test_a_first_step_of_adam_moves_each_coefficient_by_the_rate() -> None:
    options = MaximiseOptions(size=8, steps=1, learning_rate=0.1)
    still = replace(options, learning_rate=1e-6)
    one, none = (maximise(Red().eval(), Target(0), each).image for each in (options, still))
    # The mean over pixels is the constant of the orthonormal transform by the side; it is 8 times
    # the coefficient (one by the least frequency), quartered; red mixes three colours, and the
    # sum of the absolute weights of each is what a step of equal signs adds to it.
    colours = torch.tensor([0.26, 0.09, 0.02]) / torch.tensor([0.26, 0.27, 0.27]).norm()
    change = one[0].logit().mean() - none[0].logit().mean()
    assert float(change) == pytest.approx(0.1 * 8 / 8 / 4 * float(colours.sum()), rel=0.02)


def test_a_channel_answers_more_than_to_any_random_image() -> None:
    network = rule.torch_tiny("tiny_s")
    target = Target(layer="relu2", channel=5)
    best = max(float(_answer(network, torch.rand(1, 3, 12, 12))) for _ in range(50))
    for parameters in ("fourier", "pixels"):
        options = MaximiseOptions(size=12, steps=60, parameters=parameters, jitter=1)
        found = maximise(network, target, options)
        assert found.scores[-1] > best
        assert found.scores[-1] == pytest.approx(float(_answer(network, found.image[None])))
    assert not any(module._forward_hooks for module in network.modules())


def _answer(network: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = network.pool(network.relu1(network.conv1((x - network.mean) / network.std)))
        return network.relu2(network.conv2(x))[:, 5].mean()


def test_smoothness_lowers_the_total_variation() -> None:
    network, variation = rule.torch_tiny("tiny_s"), []
    for weight in (0.0, 10.0):
        options = MaximiseOptions(size=12, steps=40, tv_weight=weight)
        image = maximise(network, Target(3), options).image
        variation.append(float(image.diff(dim=1).abs().mean() + image.diff(dim=2).abs().mean()))
    assert variation[1] < variation[0] / 2


def test_it_is_seeded_and_takes_the_networks_type() -> None:
    network = rule.torch_tiny("tiny_s").double()
    options = MaximiseOptions(size=12, steps=5)
    one, two = (maximise(network, Target(0), options).image for _ in range(2))
    other = maximise(network, Target(0), replace(options, seed=1)).image
    assert one.dtype == torch.float64 and torch.equal(one, two) and not torch.equal(one, other)


def test_a_silent_neuron_moves_nothing() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -x.mean((2, 3)).relu() * 0

    found = maximise(
        Silent().eval(), Target(0), MaximiseOptions(size=8, steps=3, parameters="pixels")
    )
    assert float(found.image.std()) == pytest.approx(0.01, rel=0.2)
    assert found.scores == (0, 0, 0, 0)


def test_previews_come_and_a_cancelled_job_leaves_no_hooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_cvsuite.neurons.maximise.PREVIEW_EVERY", 2)
    network, token, seen = rule.torch_tiny("tiny_s"), CancelToken(), []

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        if progress.done == 5:
            token.cancel()

    with pytest.raises(Cancelled):
        maximise(
            network,
            Target(layer="relu2", channel=0),
            MaximiseOptions(size=12, steps=20),
            Context(token=token, on_progress=on_progress),
        )
    assert [p.done for p in seen] == [0, 1, 2, 3, 4, 5] and seen[0].total == 20
    assert [p.preview is not None for p in seen] == [True, False] * 3
    assert seen[2].preview.shape == (12, 12, 3) and seen[2].preview.dtype == "float32"
    assert not any(module._forward_hooks for module in network.modules())


def test_mistakes_are_named() -> None:
    network = rule.torch_tiny("tiny_s")
    with pytest.raises(ValueError, match="channel 12 of layer 'conv2'"):
        maximise(network, Target(layer="conv2", channel=12), MaximiseOptions(size=12))
    with pytest.raises(OptionError, match="fourier, pixels"):
        MaximiseOptions(parameters="wavelets")
