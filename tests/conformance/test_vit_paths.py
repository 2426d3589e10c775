"""The kit of vision transformers as sums of paths: all its quantities, in both key layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kits import load_rule
from torch import Tensor

from napari_cvsuite.models.vit import VisionTransformer, build
from napari_cvsuite.models.vit_weights import from_timm
from napari_cvsuite.paths import combine, decompose, intervene, replace, views
from napari_cvsuite.training.distil import Learner, self_distillation

rule = load_rule("vit_paths")
LABELS = torch.tensor(rule.LABELS)
Adapter = Callable[[VisionTransformer, Tensor], Any]


def _paths(f: Callable[[VisionTransformer, decompose.Paths], Any]) -> Adapter:
    return lambda model, x: f(model, decompose.collect(model, x))


def _rows(f: Callable[[VisionTransformer, combine.Rows], Any]) -> Adapter:
    return _paths(lambda model, paths: f(model, combine.rows_from(model, paths, LABELS)))


def _pooled(pool: str, f: Callable[[VisionTransformer, decompose.Paths], Any]) -> Adapter:
    """Run a network of the same weights whose head reads an average."""

    def run(model: VisionTransformer, x: Tensor) -> Any:
        other = build({**model.config.to_dict(), "pool": pool})
        other.load_state_dict(model.state_dict())
        return f(other, decompose.collect(other, x))

    return run


def _swapped(model: VisionTransformer, x: Tensor) -> Tensor:
    paths = decompose.collect(model, x)
    other = replace.writes_of(model, decompose.collect(model, x.flip(0)))
    return intervene.total(model, paths, "total_module", other)


def _averaged(model: VisionTransformer, x: Tensor) -> Tensor:
    paths = decompose.collect(model, x)
    mean = replace.mean_replacement(model, [x[:1], x[1:]])
    return intervene.total(model, paths, "total_module", mean)


def _distill(model: VisionTransformer, x: Tensor) -> Tensor:
    """Both losses of every prefix, the whole network as its teacher."""
    learner = Learner(model, (0.0,) * 3, (1.0,) * 3, by_depth=True).train()
    with torch.no_grad():
        answer = learner(x)
    layers = model.config.num_layers
    pairs = [(depth, layers) for depth in range(layers)]
    return self_distillation(answer.depths, answer.rows, pairs, rule.TAU)


def _scaled(make: Callable[[], Any], placement: str) -> Adapter:
    def run(model: VisionTransformer, x: Tensor) -> Tensor:
        scaled = combine.with_scale(model, torch.from_numpy(make()), placement)
        with torch.no_grad():
            return scaled(x)

    return run


def _refitted(make: Callable[[], Any]) -> Adapter:
    """Weigh cached rows instead of running the network anew."""
    return _rows(lambda model, rows: combine.logits_of(model, rows, torch.tensor(make()).float()))


ADAPTERS: dict[str, Adapter] = {
    "logits": _paths(lambda model, paths: paths.logits),
    "direct": _paths(decompose.direct),
    "removed_final": _paths(intervene.removed_final),
    "total_module": _paths(lambda m, p: intervene.total(m, p, "total_module")),
    "total_module_mean": _averaged,
    "total_module_swap": _swapped,
    "total_edge_msa": _paths(lambda m, p: intervene.total(m, p, "total_edge")),
    "total_layer": _paths(lambda m, p: intervene.total(m, p, "total_layer")),
    "total_head": _paths(lambda m, p: intervene.total(m, p, "total_head")),
    "final_from_layer": _rows(combine.final_from_layer),
    "es_final_scalar": _scaled(rule.alpha_scalar, "final"),
    "es_final_channel": _scaled(rule.alpha_channel, "final"),
    "es_stream_scalar": _scaled(rule.alpha_scalar, "stream"),
    "head_direct": _paths(decompose.head_direct),
    "source_direct": _paths(decompose.source_direct),
    "logit_lens": _paths(views.logit_lens),
    "distill": _distill,
    "greedy_prune": _rows(lambda m, rows: combine.greedy_prune(m, rows).removed),
    "attribution_patching": intervene.attribution_patching,
    "cls_attention": _paths(views.cls_attention),
    "rollout": _paths(views.rollout),
    "chefer": views.chefer,
    "fourier": _paths(views.fourier),
    "path_norm": _paths(views.path_norm),
    "token_norm": _paths(views.token_norm),
    "avg_norm_after": _pooled("avg_norm_after", decompose.direct),
    "avg_norm_before": _pooled("avg_norm_before", decompose.direct),
    "avg_token_map": _pooled("avg_norm_before", lambda m, p: decompose.token_map(m, p, 0)),
}
CACHED = {
    "es_final_scalar": _refitted(rule.alpha_scalar),
    "es_final_channel": _refitted(rule.alpha_channel),
}


def _built(sd: dict[str, Any], cfg: dict[str, Any]) -> VisionTransformer:
    model = build(cfg)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in sd.items()})
    return model.requires_grad_(False)


def _from_timm(sd: dict[str, Any], cfg: dict[str, Any]) -> VisionTransformer:
    timm = {key: torch.from_numpy(value) for key, value in rule.to_timm(sd).items()}
    return _built({key: value.numpy() for key, value in from_timm(timm).items()}, cfg)


def _timm_module(sd: dict[str, Any], cfg: dict[str, Any]) -> Any:
    """Return timm's own network with the kit's weights."""
    timm = pytest.importorskip("timm", reason="timm is an optional extra")
    network = timm.models.VisionTransformer(
        img_size=cfg["image_size"],
        patch_size=cfg["patch_size"],
        num_classes=cfg["num_classes"],
        embed_dim=cfg["hidden_dim"],
        depth=cfg["num_layers"],
        num_heads=cfg["num_heads"],
        mlp_ratio=cfg["mlp_dim"] / cfg["hidden_dim"],
    ).eval()
    made = {key: torch.from_numpy(value) for key, value in rule.to_timm(sd).items()}
    network.load_state_dict(made)
    return network


def _adapted(build: Any, adapter: Adapter) -> Callable[[Any, Any, Any], Any]:
    def run(sd: Any, cfg: Any, x: Any) -> Any:
        return np.asarray(adapter(build(sd, cfg), torch.from_numpy(x)))

    return run


def test_every_quantity_is_asked_for() -> None:
    assert set(ADAPTERS) == set(rule.NAMES)


@pytest.mark.parametrize("name", list(rule.NAMES))
def test_torchvision_keys(name: str) -> None:
    rule.check({name: _adapted(_built, ADAPTERS[name])})


@pytest.mark.parametrize("name", list(CACHED))
def test_cached_rows(name: str) -> None:
    rule.check({name: _adapted(_built, CACHED[name])})


@pytest.mark.parametrize("name", list(rule.NAMES))
def test_timm_keys(name: str) -> None:
    rule.check({name: _adapted(_from_timm, ADAPTERS[name])})


def test_timm_itself() -> None:
    """timm agrees with the kit, and what its network holds is read as it is."""

    def logits(sd: Any, cfg: Any, x: Any) -> Any:
        with torch.no_grad():
            return _timm_module(sd, cfg)(torch.from_numpy(x)).numpy()

    def shares(sd: Any, cfg: Any, x: Any) -> Any:
        state = from_timm(_timm_module(sd, cfg).state_dict())
        model = _built({key: value.numpy() for key, value in state.items()}, cfg)
        return decompose.direct(model, decompose.collect(model, torch.from_numpy(x))).numpy()

    rule.check({"logits": logits, "direct": shares})


@pytest.mark.parametrize("name", ["total_module", "total_edge_msa", "total_layer", "total_head"])
def test_growing_batch(name: str) -> None:
    kind = name.removesuffix("_msa")
    grown = _paths(lambda m, p: intervene.total(m, p, kind, grow=True))
    rule.check({name: _adapted(_built, grown)})
