"""Vision transformers: torchvision's numbers, run whole and part by part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.models.vit import (
    SMALL,
    ConfigError,
    VisionTransformer,
    ViTConfig,
    build,
    path_names,
)

CONFIG: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_dim": 24,
    "num_layers": 3,
    "num_heads": 2,
    "mlp_dim": 32,
    "num_classes": 5,
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average, then norm": {"pool": "avg_norm_after"},
    "norm, then average": {"pool": "avg_norm_before"},
    "no class token": {"pool": "avg_norm_after", "class_token": False},
    "layer scale": {"layer_scale": True},
    "normalised queries": {"qk_norm": True, "eps": 1e-5},
    "two heads": {"distilled": True},
    "registers": {"registers": 3},
    "positions of patches": {"registers": 3, "embed_prefix": False},
    "tanh": {"pre_logits": 7},
    "stem": {"stem": [[8, 2], [16, 2]]},
    "weights at the end": {"ensemble_scale": "scalar"},
    "weights by channel": {"ensemble_scale": "channel", "distilled": True},
    "weights in the stream": {"ensemble_scale": "channel", "placement": "stream"},
}


def made(**changes: Any) -> VisionTransformer:
    """Return a network whose parameters are all random."""
    torch.manual_seed(0)
    model = build({**CONFIG, **changes})
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model.requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    """Two normalised images."""
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def by_parts(model: VisionTransformer, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the logits and the write of every path."""
    stream = model.start(model.embed(x))
    writes = [model.embed(x)]
    for number, block in enumerate(model.blocks):
        for offset, module in ((1, block.msa), (2, block.ffn)):
            writes.append(module(stream.z))
            stream = model.add(stream, 2 * number + offset, writes[-1])
    return model.classify(stream.final), writes


@pytest.mark.parametrize("kind", KINDS)
def test_by_parts_the_logits_are_the_same_to_the_bit(kind: str, x: Tensor) -> None:
    model = made(**KINDS[kind])
    logits, writes = by_parts(model, x)
    assert torch.equal(logits, model(x)) and logits.shape == (2, 5)
    assert len(writes) == model.config.num_paths == len(path_names(3))
    assert all(one.shape == (2, model.config.tokens, 24) for one in writes)
    finals = [stream.final for stream in model.streams(x)]
    assert len(finals) == 4 and torch.equal(model.classify(finals[-1]), logits)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_say(kind: str, x: Tensor) -> None:
    model = made(**KINDS[kind]).requires_grad_(True)
    model(x).square().sum().backward()
    silent = [name for name, one in model.named_parameters() if not one.grad.abs().max() > 0]  # type: ignore[union-attr]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_survives_its_plain_form(kind: str) -> None:
    config = ViTConfig.from_dict({**CONFIG, **KINDS[kind]})
    assert ViTConfig.from_dict(config.to_dict()) == config
    assert build(config.to_dict()).config == config


@pytest.mark.parametrize("kind", ["plain", "tanh", "stem"])
def test_keys_and_logits_are_those_of_torchvision(kind: str, x: Tensor) -> None:
    from torchvision.models.vision_transformer import ConvStemConfig
    from torchvision.models.vision_transformer import VisionTransformer as Theirs

    model = made(**KINDS[kind])
    stem = [ConvStemConfig(channels, 3, stride) for channels, stride in model.config.stem]
    width = model.config.pre_logits or None
    theirs = Theirs(16, 4, 3, 2, 24, 32, 0.0, 0.0, 5, width, conv_stem_configs=stem or None)
    theirs.eval().load_state_dict(model.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.allclose(model(x), theirs(x), atol=1e-6)


def test_paths_are_named_in_the_order_of_the_sum() -> None:
    assert path_names(2) == ["embed", "msa_0", "ffn_0", "msa_1", "ffn_1"]


def test_the_head_reads_what_the_pool_says(x: Tensor) -> None:
    final = torch.randn(2, 19, 24, generator=torch.Generator().manual_seed(2))
    models = {pool: made(pool=pool, registers=2) for pool in ("token", "avg_norm_after")}
    models["avg_norm_before"] = made(pool="avg_norm_before", registers=2)
    norm = models["token"].encoder.ln
    wanted = {
        "token": norm(final[:, 0]),
        "avg_norm_after": norm(final[:, 3:].mean(dim=1)),
        "avg_norm_before": norm(final[:, 3:]).mean(dim=1),
    }
    for pool, model in models.items():
        assert torch.equal(model.read(final), wanted[pool])
        assert torch.equal(model.classify(final), model.heads.head(wanted[pool]))


def test_two_heads_are_averaged_each_at_its_token(x: Tensor) -> None:
    model = made(distilled=True)
    final = torch.randn(2, 18, 24, generator=torch.Generator().manual_seed(2))
    first = model.heads.head(model.encoder.ln(final[:, 0]))
    second = model.heads.head_dist(model.encoder.ln(final[:, 1]))
    assert torch.allclose(model.classify(final), (first + second) / 2)


def test_positions_leave_other_tokens_alone_where_they_should(x: Tensor) -> None:
    model = made(registers=3, embed_prefix=False)
    tokens = model.embed(x)
    assert torch.equal(tokens[:, :1], model.class_token.expand(2, -1, -1))  # type: ignore[union-attr]
    assert torch.equal(tokens[:, 1:4], model.register_tokens.expand(2, -1, -1))  # type: ignore[union-attr]
    patches = model.conv_proj(x).flatten(2).transpose(1, 2)
    assert torch.equal(tokens[:, 4:], patches + model.encoder.pos_embedding)


def test_attention_can_be_had_apart(x: Tensor) -> None:
    attention = made(qk_norm=True).blocks[0].self_attention
    tokens = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(2))
    q, k, v = attention.project(tokens)
    weights = attention.weights(q, k)
    assert weights.shape == (2, 2, 17, 17)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, 2, 17))
    assert torch.allclose(attention.merge(weights @ v), attention(tokens), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = attention(tokens)
    assert reduced.dtype == torch.bfloat16
    assert torch.allclose(reduced.float(), attention(tokens), atol=0.1)


@pytest.mark.parametrize("placement", ["final", "stream"])
@pytest.mark.parametrize("kind", ["scalar", "channel"])
def test_weights_of_one_change_nothing(kind: str, placement: str, x: Tensor) -> None:
    plain = made()
    model = build({**CONFIG, "ensemble_scale": kind, "placement": placement})
    missing = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys == ["ensemble_scale.alpha"]
    assert torch.allclose(model(x), plain(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["scalar", "channel"])
def test_weights_at_the_end_weigh_the_writes_of_the_plain_network(kind: str, x: Tensor) -> None:
    model, plain = made(ensemble_scale=kind), made()
    plain.load_state_dict(model.state_dict(), strict=False)
    _, writes = by_parts(plain, x)
    assert model.ensemble_scale is not None
    alpha = model.ensemble_scale.alpha
    total = sum(alpha[number] * write for number, write in enumerate(writes))
    assert isinstance(total, Tensor)
    assert torch.allclose(model(x), plain.classify(total), atol=1e-5)


def test_weights_in_the_stream_are_those_of_layer_scale(x: Tensor) -> None:
    model = made(ensemble_scale="channel", placement="stream")
    assert model.ensemble_scale is not None
    model.ensemble_scale.alpha[0] = 1
    scaled = made(layer_scale=True)
    scaled.load_state_dict(model.state_dict(), strict=False)
    for number, block in enumerate(scaled.blocks):
        for name, path in (("layer_scale_1", 2 * number + 1), ("layer_scale_2", 2 * number + 2)):
            setattr(block, name, nn.Parameter(model.ensemble_scale.alpha[path]))
    assert torch.allclose(model(x), scaled(x), atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_can_be_built(name: str) -> None:
    config = {**SMALL[name], "image_size": 32, "patch_size": 8, "num_classes": 3}
    assert build(config)(torch.rand(1, 3, 32, 32)).shape == (1, 3)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sees images of 3 x 16 x 16; got 3 x 16 x 20: resize"):
        made()(torch.rand(1, 3, 16, 20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 18}, "image_size 18 must be a multiple of patch_size 4"),
        ({"num_heads": 5}, "hidden_dim 24 must be a multiple of num_heads 5"),
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1; got 0"),
        ({"num_classes": 2.0}, "num_classes must be a whole number"),
        ({"pool": "max"}, "pool must be one of token, avg_norm_after, avg_norm_before"),
        ({"placement": "start"}, "placement must be one of final, stream"),
        ({"stem": [[8, 2]]}, "strides of the stem must multiply to patch_size 4"),
        ({"class_token": False}, "needs an average as pool"),
        ({"distilled": True, "pre_logits": 4}, "a distilled network has pool 'token'"),
        ({"depth": 3}, "unknown field 'depth'"),
        ({"stem": 3}, "cannot be used"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**CONFIG, **changes})
