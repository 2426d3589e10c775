"""From checkpoints of classifiers, in every layout met in practice, to networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_cvsuite.models.adapters import innermost, require_layout
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.models.cnn import IMAGENET_MEAN, IMAGENET_STD, Classifier, build
from napari_cvsuite.models.googlenet import GoogLeNet
from napari_cvsuite.models.weights import WeightsError

__all__ = [
    "build_cnn",
    "cnn_fields",
    "filled",
    "infer_network",
    "looks_like_cnn",
    "read_layout",
    "split_normaliser",
]

Normaliser = tuple[Tensor, Tensor]
USE = "Use the checkpoint of a whole classifier, such as torchvision's or a training run's."
_MEANS, _STDS = ("new_mean", "mean", "mu"), ("new_std", "std", "sigma")
_HEADS = ("normalizer", "normalize", "0", "")
_COUNTER = "num_batches_tracked"
# Names that the authors of arXiv 2006.09373 gave to parts of their networks.
_RENAMES = {"last_layer.": "classifier.6.", "branch4_conv": "branch4.1"}
_COUNTS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


def read_layout(
    container: Any, expected: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Tensor], Normaliser | None]:
    """Return the tensors of a network from a checkpoint, and its normaliser if it holds one.

    Parameters
    ----------
    container : mapping
        What ``torch.load(weights_only=True)`` returns: plain torchvision, DataParallel, the
        robustness library (with its attacker's copies), AlexNet-R and GoogLeNet-R of the authors
        of arXiv 2006.09373, RobustBench.
    expected : mapping of str to shape
        Keys of the network.

    Returns
    -------
    dict of str to Tensor
        With exactly the expected keys; counters of batches that are missing are 0.
    tuple of Tensor, optional
        Mean and deviation, of three numbers each.

    Raises
    ------
    WeightsError
        An entry is missing, unknown or of another shape; the message names it.
    """
    found, normaliser = split_normaliser(innermost(container))
    wanted = {key: torch.empty(tuple(shape), device="meta") for key, shape in expected.items()}
    # Heads of GoogLeNet that are used in training alone.
    found = {k: v for k, v in found.items() if k in wanted or not k.startswith(("aux1.", "aux2."))}
    for key in wanted:
        if key.endswith(_COUNTER):
            found.setdefault(key, torch.zeros((), dtype=torch.int64))
    require_layout(found, wanted, "classifier's", USE)
    return found, normaliser


def split_normaliser(container: Mapping[str, Any]) -> tuple[dict[str, Tensor], Normaliser | None]:
    """Return the tensors of the network by its own names, and the normaliser apart from them.

    Parameters
    ----------
    container : mapping
        State dict in any layout of :func:`read_layout`; what is no tensor is left out.
    """
    norm: dict[bool, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for key, value in container.items():
        if not isinstance(value, Tensor):
            continue
        while key.startswith("module."):
            key = key.removeprefix("module.")
        if key.startswith("attacker."):
            continue
        head, _, tail = key.rpartition(".")
        if head in _HEADS and tail in _MEANS + _STDS:
            norm[tail in _STDS] = value.flatten()
        else:
            rest[key] = value
    for prefix in ("model.", "1."):
        everywhere = bool(rest) and all(key.startswith(prefix) for key in rest)
        if everywhere and (prefix == "model." or norm):
            rest = {k.removeprefix(prefix).removeprefix("module."): v for k, v in rest.items()}
    for old, new in _RENAMES.items():
        rest = {key.replace(old, new): value for key, value in rest.items()}
    return rest, (norm[False], norm[True]) if len(norm) == 2 else None


def looks_like_cnn(state: Mapping[str, Tensor]) -> bool:
    """Return whether :func:`infer_network` knows the network of a state dict."""
    try:
        infer_network(split_normaliser(state)[0])
    except WeightsError:
        return False
    return True


def infer_network(state: Mapping[str, Tensor]) -> tuple[str, int]:
    """Return the name (see :func:`napari_cvsuite.models.cnn.build`) and the number of classes.

    Raises
    ------
    WeightsError
        The keys are those of no classifier of the package.
    """
    name, last = "", ""
    if "features.0.weight" in state and "classifier.6.weight" in state:
        name, last = "alexnet", "classifier.6.weight"
    elif "features.0.weight" in state and "classifier.3.weight" in state:
        name, last = "alexnet-small", "classifier.3.weight"
    elif "inception3a.branch1.conv.weight" in state:
        whole = "inception5b.branch1.conv.weight" in state
        name, last = "googlenet" if whole else "googlenet-small", "fc.weight"
    elif "layer1.0.conv1.weight" in state and "conv1.weight" in state:
        name, last = _resnet(state), "fc.weight"
    if not name or last not in state or state[last].ndim != 2:
        first = ", ".join(list(state)[:5]) or "none"
        raise WeightsError(
            f"The file is not for a classifier that is known by its keys; its first are {first}. "
            f"{USE}"
        )
    return name, int(state[last].shape[0])


def _resnet(state: Mapping[str, Tensor]) -> str:
    if state["conv1.weight"].shape[-1] == 3:
        return "resnet-small"
    counts = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    )
    return _COUNTS.get(("layer1.0.conv3.weight" in state, counts), "")


def build_cnn(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Classifier:
    """Return the eval-mode float32 classifier of a state dict, its normalisation inside.

    Parameters
    ----------
    state : mapping of str to Tensor
        In any layout that :func:`read_layout` knows.
    options : mapping
        ``network``, for those that do not show in the keys; ``mean`` and ``std``, where the file
        has no normaliser (default those of ImageNet); ``clamp``; ``transform_input`` of GoogLeNet
        (default: where the file has no normaliser).

    Raises
    ------
    WeightsError
        The weights are not those of the network, or an option is unknown.
    """
    known = ("network", "mean", "std", "clamp", "transform_input", "resize")
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise WeightsError(f"Classifiers have no options {', '.join(unknown)}; correct the card.")
    flat, inside = split_normaliser(state)
    name, classes = _network(flat, str(options.get("network", "")))
    with torch.device("meta"):
        made = build(name, classes)
    expected = made.state_dict()
    found, _ = read_layout(state, {key: tuple(value.shape) for key, value in expected.items()})
    if isinstance(made, GoogLeNet):
        made.transform_input = bool(options.get("transform_input", inside is None))
    clamp = any(k.endswith("new_mean") for k in state)
    return filled(made, found, inside, {"clamp": clamp, **options})


def filled(
    made: nn.Module,
    found: Mapping[str, Tensor],
    inside: tuple[Tensor, Tensor] | None,
    options: Mapping[str, Any],
) -> Classifier:
    """Return the eval-mode classifier of a network and its weights.

    Parameters
    ----------
    made : nn.Module
        On the meta device.
    found : mapping of str to Tensor
        All its weights, maybe among others; copied.
    inside : tuple of Tensor, or None
        Mean and deviation that the file has, see :func:`split_normaliser`.
    options : mapping
        ``mean`` and ``std`` for files without (default those of ImageNet), and ``clamp``.
    """
    # Copies, as tensors may be views of the mapped file, which Windows then keeps locked.
    owned = {k: found[k].to(v.dtype, copy=True) for k, v in made.state_dict().items()}
    made.load_state_dict(owned, strict=True, assign=True)
    mean, std = options.get("mean", IMAGENET_MEAN), options.get("std", IMAGENET_STD)
    if inside is not None:
        mean, std = (one.tolist() for one in inside)
    return Classifier(made, mean, std, bool(options.get("clamp", False))).eval()


def _network(state: Mapping[str, Tensor], stated: str) -> tuple[str, int]:
    """Return the network's name and classes, as stated or as the keys show it."""
    try:
        name, classes = infer_network(state)
    except WeightsError:
        heads = [value for value in state.values() if value.ndim == 2]
        if not stated or not heads:
            raise
        return stated, int(heads[-1].shape[0])
    if stated and stated != name:
        raise WeightsError(
            f"The options state network={stated!r}, but the weights are those of {name!r}; correct "
            "the card."
        )
    return name, classes


def cnn_fields(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a model card that the weights show; see :func:`build_cnn`."""
    made = build_cnn(state, options)
    flat, _ = split_normaliser(state)
    name, classes = _network(flat, str(options.get("network", "")))
    small = name.endswith("-small")
    clamp = made.normalize.clamp
    shown: dict[str, Any] = {"network": name, "clamp": clamp, "resize": 32 if small else 256}
    if isinstance(made.model, GoogLeNet):
        shown["transform_input"] = made.model.transform_input
    return {
        "task": "classification",
        "options": shown,
        "classes": [f"class {number}" for number in range(classes)],
        "input": InputSpec(mode="resize", tile=32 if small else 224, normalisation="unit"),
    }
