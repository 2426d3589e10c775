"""From checkpoint files, ours and other people's, to tensors and networks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors import torch as safetensors_torch
from torch import Tensor

from napari_cvsuite.models.catalog import InputSpec, ModelCard, WeightFile
from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig
from napari_cvsuite.models.weights import WeightsError

__all__ = [
    "build_qtseg",
    "describe",
    "infer_qtseg_config",
    "innermost",
    "load_qtseg",
    "read_tensors",
    "require_layout",
    "require_scaling",
    "tensors_to_bytes",
]

_NESTS = (
    "state_dict_model",
    "model",
    "state_dict",
    "stat_dict",
    "net",
    "model_state_dict",
    "params",
    "last",
    "best",
    "ema",
)
SCALINGS = {"qtseg": "minmax", "topiq": "unit", "cnn": "unit", "vit": "unit", "swin": "unit"}
"""How the networks of each architecture want their input scaled."""
_TOPIQ = ("semantic_model.", "weight_pool.", "dim_reduce.", "attn_blks.", "score_linear.")
_QTSEG = ("image_encoder.", "mask_decoder.", "conv_0.", "c2f_")
USE = "Use a QTSeg checkpoint of the whole network, as training writes."
AGAIN = "Copy or download it again."
_SCALAR = np.float64(0).__reduce__()[0]
# What pickles of numpy scalars name; numpy 1 and 2 spell the reconstructor differently.
_NUMPY_GLOBALS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
]
# torch keeps one allow-list per process, and leaving safe_globals puts the earlier one back.
_allow_list = threading.Lock()


def load_qtseg(path: Path | str, num_heads: int = 8) -> QTSeg:
    """Return the eval-mode network of a QTSeg checkpoint.

    Parameters
    ----------
    path : path-like
        Checkpoint; a ``cfg.json`` beside it may state the bridge.
    num_heads : int
        Attention heads, which the weights do not show.

    Raises
    ------
    WeightsError
        The file cannot be read, or is not for this architecture.
    """
    path = Path(path)
    return build_qtseg(read_tensors(path), num_heads, _stated_bridge(path.with_name("cfg.json")))


def build_qtseg(
    state: Mapping[str, Tensor], num_heads: int = 8, bridge: str | None = None
) -> QTSeg:
    """Return the eval-mode float32 network of a state dict; see :func:`load_qtseg`."""
    config = infer_qtseg_config(state, num_heads)
    if bridge is not None and bridge != config.bridge:
        raise WeightsError(
            f"cfg.json states the bridge {bridge!r}, but the weights have {config.bridge!r}; "
            "put the file of this checkpoint there, or take it away."
        )
    # On the meta device nothing is allocated and the user's random state is left alone.
    with torch.device("meta"):
        model = QTSeg(config)
    expected = model.state_dict()
    require_layout(state, expected, "QTSeg", USE)
    # Copies, as tensors may be views of the mapped file, which Windows then keeps locked.
    owned = {k: state[k].to(v.dtype, copy=True) for k, v in expected.items()}
    model.load_state_dict(owned, strict=True, assign=True)
    return model.eval()


def require_layout(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], network: str, remedy: str
) -> None:
    """Raise :class:`WeightsError` unless the keys and shapes are those of `expected`.

    Parameters
    ----------
    state, expected : mapping of str to Tensor
    network, remedy : str
        Name of the architecture, and a sentence on what to do, for the message.
    """
    problems = [f"missing {k}" for k in expected if k not in state]
    problems += [f"unexpected {k}" for k in state if k not in expected]
    problems += [
        f"{k} has shape {tuple(state[k].shape)}, not {tuple(v.shape)}"
        for k, v in expected.items()
        if k in state and state[k].shape != v.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(
            f"The file is not for the {network} architecture: {'; '.join(problems[:5])}{more}. "
            f"{remedy}"
        )


def infer_qtseg_config(state: Mapping[str, Tensor], num_heads: int = 8) -> QTSegConfig:
    """Return the configuration that the shapes of a QTSeg state dict imply."""
    encoder = any(re.match(r"(image_encoder\.)?(conv_0|c2f_2)\.", k) for k in state)
    if encoder and not any(k.startswith("mask_decoder.") for k in state):
        raise WeightsError(
            "The file holds only the image encoder of QTSeg: without its mask decoder it "
            "cannot segment. Use the checkpoint of the whole network."
        )
    try:
        config = QTSegConfig.from_state_dict(dict(state))
        return dataclasses.replace(config, num_heads=num_heads)
    except KeyError as error:
        raise WeightsError(
            f"The file is not for the QTSeg architecture: missing {error.args[0]}; its first "
            f"keys are {', '.join(list(state)[:5])}. {USE}"
        ) from error
    except (ValueError, IndexError) as error:
        raise WeightsError(f"The file is not for the QTSeg architecture: {error}. {USE}") from error


def _stated_bridge(path: Path) -> str | None:
    """Return the bridge named in a cfg.json; the reference calls MLFD also MLFF."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. {AGAIN}") from error
    tables = [data, *data.values()] if isinstance(data, dict) else []
    for table in tables:
        value = table.get("bridge") if isinstance(table, dict) else None
        if isinstance(value, dict):
            value = value.get("name", value.get("type"))
        if isinstance(value, str):
            return "MLFD" if value.upper() in ("MLFF", "MLFD") else value
    return None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Implement :func:`napari_cvsuite.models.weights.read_state_dict`."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist; check the name and the folder.")
    if not path.is_file():
        raise WeightsError(f"{path} is a folder; give the weight file in it.")
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if not head:
            raise WeightsError(f"{path} is empty. {AGAIN}")
        if path.suffix == ".safetensors" or head[8:] == b"{":
            found: Any = safetensors_torch.load_file(path)
        else:
            with _allow_list, torch.serialization.safe_globals(_NUMPY_GLOBALS):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is a damaged safetensors file: {error}. {AGAIN}") from error
    except MemoryError as error:
        raise WeightsError(f"{path} does not fit in memory; close other programs.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}. {AGAIN}") from error
    except Exception as error:  # A damaged pickle can make torch raise anything.
        raise _refusal(path, error) from error
    return _plain_state(path, found)


def _refusal(path: Path, error: Exception) -> WeightsError:
    text = str(error)
    culprit = re.search(
        r"(?:GLOBAL |Unsupported (?:global|class|operand) |but got <class ')([A-Za-z_][\w.]*)", text
    )
    if "TorchScript" in text:
        reason = "it is a TorchScript program"
    elif culprit:
        reason = f"it wants to run {culprit.group(1)}"
    else:
        # torch wraps what went wrong in advice that is not for users.
        stated = re.search(r"WeightsUnpickler error:\s*(\S.*)", text)
        cause = stated.group(1) if stated else f"{type(error).__name__} {text}"
        return WeightsError(f"{path} is damaged or not a checkpoint: {cause[:200]}. {AGAIN}")
    return WeightsError(
        f"{path} was not opened, as {reason}: loading it could execute any code. "
        "Ask its author for a safetensors file or a plain state dict (tensors only)."
    )


def innermost(container: Any) -> Mapping[str, Any]:
    """Return the state dict in a checkpoint that also holds an optimiser, an epoch and the like.

    Raises
    ------
    WeightsError
        It is no mapping.
    """
    if not isinstance(container, Mapping):
        raise WeightsError(
            f"A checkpoint must hold a table of tensors, not {type(container).__name__}. Save "
            "model.state_dict() and use that."
        )
    nested = (container[k] for k in _NESTS if isinstance(container.get(k), Mapping))
    return next(nested, container)


def _plain_state(path: Path, found: Any) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        found = innermost(found)
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(
            f"{path} holds no state dict but {type(found).__name__}. Save "
            "model.state_dict() and use that."
        )
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} is not a state dict: {key!r} is of type {type(value).__name__}, not a "
                "tensor. Save model.state_dict() and use that."
            )
    prefix = "module." if all(k.startswith("module.") for k in found) else ""
    return {k[len(prefix) :]: v.detach() for k, v in found.items()}


def tensors_to_bytes(
    state: Mapping[str, Tensor], half: bool, metadata: Mapping[str, str] | None
) -> bytes:
    """Implement the encoding of :func:`napari_cvsuite.models.weights.write_safetensors`."""
    stored = {}
    for key, tensor in state.items():
        value = tensor.detach().cpu()
        if half and value.is_floating_point():
            short = value.half()
            fits = value.ndim >= 2 and bool(torch.isfinite(short).all())
            value = short if fits else value.float()
        # Cloned, as safetensors refuses tensors that share memory.
        stored[key] = value.clone(memory_format=torch.contiguous_format)
    content: bytes = safetensors_torch.save(stored, dict(metadata) if metadata else None)
    return content


def describe(
    state: Mapping[str, Tensor], stem: str, given: Mapping[str, Any], content: bytes
) -> ModelCard:
    """Return a card for an imported state dict: the `given` fields, the others inferred."""
    name = str(
        given.get("name") or re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+") or "model"
    )
    fields: dict[str, Any] = {
        "name": name,
        "architecture": given.get("architecture") or _architecture(state),
        "license": "unknown",
        "description": f"Imported from {stem}.",
    }
    fields.update({k: v for k, v in given.items() if k != "weights"})
    if fields["architecture"] == "qtseg":
        inferred = _qtseg_fields(state, fields.get("options", {}))
    elif fields["architecture"] == "topiq":
        # Here, since torchvision takes a while to load.
        from napari_cvsuite.models.topiq_weights import topiq_fields

        inferred = topiq_fields(state, fields.get("options", {}))
    elif fields["architecture"] == "cnn":
        from napari_cvsuite.models.cnn_weights import cnn_fields

        inferred = cnn_fields(state, fields.get("options", {}))
    elif fields["architecture"] == "vit":
        from napari_cvsuite.models.vit_weights import vit_fields

        inferred = vit_fields(state, fields.get("options", {}))
    elif fields["architecture"] == "swin":
        from napari_cvsuite.models.swin_weights import swin_fields

        inferred = swin_fields(state, fields.get("options", {}))
    else:
        inferred = {}
    options = {**inferred.get("options", {}), **fields.get("options", {})}
    fields = {**inferred, **fields, "options": options}
    if isinstance(fields.get("input"), InputSpec):
        fields["input"] = dataclasses.asdict(fields["input"])
    digest = hashlib.sha256(content).hexdigest()
    weights = WeightFile(f"{name}.safetensors", digest, len(content))
    card = ModelCard.from_dict({**fields, "weights": dataclasses.asdict(weights)})
    require_scaling(card)
    return card


def _architecture(state: Mapping[str, Tensor]) -> str:
    """Return of which network a state dict is; raises WeightsError if it is of none."""
    from napari_cvsuite.models.cnn_weights import looks_like_cnn, split_normaliser
    from napari_cvsuite.models.foreign import family, refuse
    from napari_cvsuite.models.swin_weights import looks_like_swin
    from napari_cvsuite.models.vit_weights import looks_like_vit

    if any(key.startswith(_TOPIQ) for key in state):
        return "topiq"
    if looks_like_vit(state):
        return "vit"
    if looks_like_swin(state):
        return "swin"
    found, _ = split_normaliser(state)
    if not family(found):
        if looks_like_cnn(state):
            return "cnn"
        if any(key.startswith(_QTSEG) for key in found):
            return "qtseg"
    raise refuse(found)


def require_scaling(card: ModelCard) -> None:
    """Raise :class:`WeightsError` if a card states another scaling than its network needs."""
    stated = card.input.normalisation
    needed = SCALINGS.get(card.architecture, stated)
    if stated != needed:
        raise WeightsError(
            f"The card of {card.name!r} states input.normalisation {stated!r}, but networks of the "
            f"architecture {card.architecture!r} need {needed!r}. Correct the card; with models "
            "import, leave --whole away, which is for segmentation."
        )


def _qtseg_fields(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a card that the weights show."""
    config = build_qtseg(state, int(options.get("num_heads", 8))).config
    count = max(2, config.num_classes)  # One sigmoid plane tells two classes apart.
    return {
        "task": "semantic segmentation",
        "options": config.to_dict(),
        "classes": ["background", *(f"class {i}" for i in range(1, count))],
        "input": InputSpec(channels=config.image_channel),
    }
