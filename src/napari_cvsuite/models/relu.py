"""A copy of a network in which every ReLU call is a module of its own."""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

__all__ = ["UntraceableError", "relu_sites", "separate_relus"]

_FUNCTIONS = (F.relu, torch.relu, torch.relu_)
# Recording replaces a method of nn.Module for a moment: two at a time would not put it back.
_RECORDING = threading.Lock()


class UntraceableError(ValueError):
    """The calls of a network cannot be recorded, so its ReLUs cannot be told apart."""


class _Output(nn.Module):
    """Stands where a block was: its submodules keep their names, hooks see its output."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Tracer(fx.Tracer):
    """Records the calls of a network, and where the output of each block appears."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A layer of torch with others inside, such as a transformer's, may hide a ReLU.
        return super().is_leaf_module(m, module_qualified_name) and not any(m.children())

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        # Networks that run in other threads meanwhile come by here, too.
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        out = super().call_module(m, forward, args, kwargs)
        name = self.path_of_module(m)
        if self.is_leaf_module(m, name) or not isinstance(out, fx.Proxy):
            return out
        return self.create_proxy("call_module", name, (out,), {})


def separate_relus(network: nn.Module) -> nn.Module:
    """Give each ReLU call of a network its own ``nn.ReLU(inplace=False)``.

    Guided backpropagation, deconvolution and DeepLift hook ReLU modules. A ReLU that is called as a
    function escapes them without an error, and one module that is called twice confuses them. The
    latter is true for all layers without weights, such as pooling, so these are told apart, too.

    Parameters
    ----------
    network : nn.Module
        In eval mode; it stays as it was.

    Returns
    -------
    nn.Module
        Shares the weights of `network` and gives the same outputs. Layers and blocks keep their
        names; the name of a module that was called several times belongs to its last call.

    Raises
    ------
    UntraceableError
        The way through the network depends on the values of the image.
    """
    present = set(vars(network))
    try:
        return _separated(network)
    finally:
        # Recording leaves constants of the network behind as attributes.
        for name in set(vars(network)) - present:
            delattr(network, name)


def relu_sites(network: nn.Module) -> int:
    """Count the ReLU calls on the way through a network.

    Parameters
    ----------
    network : nn.Module

    Raises
    ------
    UntraceableError
        See :func:`separate_relus`.
    """
    return sum(type(module) is nn.ReLU for module in separate_relus(network).modules())


def _separated(network: nn.Module) -> nn.Module:
    graph = _recorded(network)
    modules = dict(network.named_modules())
    root: dict[str, Any] = {}
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr":
            root[node.target] = operator.attrgetter(node.target)(network)
            continue
        own = _own_module(node, modules)
        if own is None:
            continue
        name = node.target
        if node.op != "call_module" or (name in root and own is not root[name]):
            name = f"separate_{len(root)}"
        root[name] = own
        if type(own) is nn.ReLU:
            _put_relu(graph, node, name, modules)
        else:
            node.target = name
    made = fx.GraphModule(root, graph)
    shared = set(network.modules())
    for module in made.modules():
        if module not in shared:
            module.training = network.training
    return made


def _recorded(network: nn.Module) -> fx.Graph:
    try:
        with _RECORDING:
            return _Tracer().trace(network)
    # Recording runs the network with stand-ins for tensors: what its code makes of them is open.
    except Exception as error:
        raise UntraceableError(
            "the ReLUs of this network cannot be told apart, because its calls cannot be recorded "
            f"({error}); guided backpropagation, deconvolution and DeepLift are not to be had for "
            "it, use the gradient or integrated gradients"
        ) from error


def _own_module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    """Return the module that this call is to have; None for other calls."""
    if _is_relu(node, modules):
        return nn.ReLU(inplace=False)
    if node.op != "call_module":
        return None
    module = modules[str(node.target)]
    if not _Tracer().is_leaf_module(module, str(node.target)):
        return _Output()
    if next(module.parameters(), None) is None and next(module.buffers(), None) is None:
        return copy.deepcopy(module)
    return module


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(modules[str(node.target)]) is nn.ReLU
    if node.op == "call_method":
        return node.target in ("relu", "relu_")
    return node.op == "call_function" and node.target in _FUNCTIONS


def _put_relu(graph: fx.Graph, node: fx.Node, name: str, modules: dict[str, nn.Module]) -> None:
    before = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(before, fx.Node)
    with graph.inserting_after(node):
        made = graph.call_module(name, (before,))
    if _is_in_place(node, modules):
        before.replace_all_uses_with(made, lambda user: user > made)
    node.replace_all_uses_with(made)
    graph.erase_node(node)


def _is_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(modules[str(node.target)].inplace)
    if node.target in ("relu_", torch.relu_):
        return True
    return node.target is F.relu and bool((*node.args, False)[1] or node.kwargs.get("inplace"))
