"""Every ReLU call gets a module of its own; outputs, names and the network stay."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models import cnn
from napari_cvsuite.models.relu import UntraceableError, relu_sites, separate_relus


class Mixed(nn.Module):
    """Calls ReLUs in every way, and one pooling twice."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(0.5))
        self.scale = torch.tensor(2.0)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.second, self.third = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.first((x - self.shift) * self.scale))
        x = self.relu(self.second(x))
        x = self.relu(self.third(x) - 0.1)
        y = self.third(x)
        # What the function returns is not used: it changes y.
        F.relu(y, inplace=True)
        x = torch.relu(self.second(y)) + F.relu(input=x - 0.2)
        x = self.pool((x - 0.1).relu()) + self.pool(torch.relu_(x - 0.3)) - (x.mean() - 1).relu_()
        return self.fc(x.mean((2, 3)))


class Shared(nn.Module):
    """A block, with a ReLU inside, that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x)).mean((2, 3))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.mean() > 0 else x


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mixed() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().eval()


def test_outputs_are_equal_and_no_relu_is_left_that_is_shared_or_in_place(
    mixed: nn.Module, images: Tensor
) -> None:
    made = separate_relus(mixed)
    # One in `first`, two of `relu`, and six calls of functions and methods.
    assert relu_sites(mixed) == 9
    assert torch.equal(made(images), mixed(images))
    calls: list[nn.Module] = []
    for module in made.modules():
        if isinstance(module, (nn.ReLU, nn.MaxPool2d)):
            module.register_forward_hook(lambda one, *_: calls.append(one))
            assert not getattr(module, "inplace", False)
    made(images)
    assert len(calls) == len(set(calls)) == 9 + 3


def test_the_network_stays_as_it_was(mixed: nn.Module, images: Tensor) -> None:
    attributes, modules, before = set(vars(mixed)), list(mixed.modules()), mixed(images)
    made = separate_relus(mixed)
    assert set(vars(mixed)) == attributes and list(mixed.modules()) == modules
    assert torch.equal(mixed(images), before)
    assert not any(module.training for module in made.modules())
    assert made.get_submodule("fc") is mixed.get_submodule("fc")
    assert not set(made.modules()) & {m for m in modules if isinstance(m, (nn.ReLU, nn.MaxPool2d))}


def test_layers_and_blocks_are_found_by_name_and_give_the_same() -> None:
    torch.manual_seed(0)
    network = cnn.Classifier(cnn.build("resnet-small", 4)).eval()
    made, images = separate_relus(network), torch.rand(1, 3, 32, 32)
    names = [name for name, _ in network.named_modules() if name]
    assert set(names) <= set(dict(made.named_modules()))
    before, after = _outputs(network, names, images), _outputs(made, names, images)
    assert set(before) > {"model.layer1", "model.layer3.0.relu", "normalize"}
    assert set(before) == set(after)
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def _outputs(network: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: found.update({name: output.clone()})

    # Both networks have the same convolutions: hooks must not stay.
    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


def test_a_block_that_runs_twice_has_two_relus(images: Tensor) -> None:
    network = Shared().eval()
    made = separate_relus(network)
    assert relu_sites(network) == 2
    assert torch.equal(made(images), network(images))
    assert [p is q for p, q in zip(made.parameters(), network.parameters(), strict=True)] == [
        True
    ] * 2


def test_a_network_that_depends_on_the_image_is_refused() -> None:
    with pytest.raises(UntraceableError, match="DeepLift are not to be had"):
        separate_relus(Branching().eval())
    assert issubclass(UntraceableError, ValueError)


def test_an_attention_layer_that_may_hide_a_relu_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with pytest.raises(UntraceableError, match="guided"):
        relu_sites(layer)


def test_networks_in_other_threads_go_on_meanwhile(images: Tensor) -> None:
    entered, leave = threading.Event(), threading.Event()
    found: list[Tensor] = []

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            entered.set()
            assert leave.wait(10)
            return x.relu()

    def other() -> None:
        assert entered.wait(10)
        found.append(nn.Sequential(nn.Identity(), nn.ReLU())(images))
        leave.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert relu_sites(Slow().eval()) == 1
    thread.join()
    assert torch.equal(found[0], images)


@pytest.mark.parametrize(("name", "sites"), [("alexnet", 7), ("googlenet", 57), ("resnet50", 49)])
def test_sites_of_torchvisions_networks(name: str, sites: int) -> None:
    from torchvision import models

    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    # Without storage, since only the calls count.
    with torch.device("meta"):
        theirs = models.get_model(name, weights=None, **options).eval()
        assert relu_sites(theirs) == relu_sites(cnn.build(name, 1000)) == sites
