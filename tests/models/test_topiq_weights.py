"""Published TOPIQ files by their layout: random values, the keys and shapes of the real ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from kits import KITS
from torch import Tensor

from napari_cvsuite.models.catalog import Catalogue, ModelCard, known_folder
from napari_cvsuite.models.store import ModelStore, build_model
from napari_cvsuite.models.topiq import CFANet, TopiqConfig, build
from napari_cvsuite.models.topiq_weights import build_topiq, infer_topiq_config
from napari_cvsuite.models.weights import (
    WeightsError,
    import_file,
    read_state_dict,
    write_safetensors,
)

LAYOUTS = json.loads((KITS / "topiq" / "state_dict_keys.json").read_text())
SMALL: dict[str, Any] = {"semantic_model_name": "resnet10_compact", "inter_dim": 32}
KNOWN = [card for card in Catalogue().packaged() if card.name.startswith("topiq_")]
LAYOUT_OF = {
    **dict.fromkeys(
        ("topiq_nr", "topiq_nr-flive", "topiq_nr-spaq", "topiq_nr-face", "topiq_nr-face-v1"),
        "nr_res50",
    ),
    **dict.fromkeys(("topiq_fr", "topiq_fr-pipal"), "fr_res50"),
    "topiq_nr_swin-face": "nr_swin",
    "topiq_iaa": "iaa_swin",
    "topiq_iaa_res50": "iaa_res50",
}
NAMES = ("nr_res50", "fr_res50", "iaa_res50", "nr_swin", "iaa_swin")


def layout(name: str) -> dict[str, Any]:
    return next(value for key, value in LAYOUTS.items() if key.startswith(f"{name} "))


def official(name: str) -> dict[str, Tensor]:
    """Return tensors of a published layout, one random value each, so that files stay small."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for key, shape, dtype in layout(name)["keys"]:
        value = torch.rand((1,) * len(shape), generator=random).to(getattr(torch, dtype))
        state[key] = value.expand(shape)
    with torch.device("meta"):
        model = CFANet(TopiqConfig.from_dict(layout(name)["options"]))
    if "swin" in name:
        constants = model.semantic_model.constants()  # type: ignore[operator]
        state.update({f"semantic_model.{k}": v for k, v in constants.items()})
    return state


def shapes(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def test_all_published_models_are_known() -> None:
    assert {card.name for card in KNOWN} == set(LAYOUT_OF)
    assert len(list(known_folder().glob("topiq_*.json"))) == len(LAYOUT_OF)


@pytest.mark.parametrize("card", KNOWN, ids=lambda card: card.name)
def test_a_known_card_is_that_of_its_published_file(card: ModelCard) -> None:
    with torch.device("meta"):
        made = CFANet(TopiqConfig.from_dict(dict(card.options)))
    wanted = layout(LAYOUT_OF[card.name])
    assert shapes(made.state_dict()) == {key: shape for key, shape, _ in wanted["keys"]}
    file = card.weights
    # The published names end in the first digits of the hash.
    digits = re.search(r"-([0-9a-f]{8})\.pth", file.filename)
    assert digits is not None and file.sha256.startswith(digits.group(1))
    assert file.size == 0 and file.license_must_be_accepted
    first, second = file.sources
    assert first.startswith("https://huggingface.co/") and first.endswith(f"/{file.filename}")
    assert second.startswith("https://github.com/") and second.endswith(f"/{file.filename}")
    assert "non-commercial" in card.license and "higher is better" in card.description
    assert (card.task, card.input.normalisation, card.input.mode) == ("quality", "unit", "native")
    grades = tuple(str(grade) for grade in range(1, 11))
    assert card.classes == (grades if "iaa" in card.name else ("score",))
    assert ("face cropper" in card.description) == ("face" in card.name)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_file_loads_without_a_card(name: str, tmp_path: Path) -> None:
    state = official(name)
    torch.save({"params": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    made = build_topiq(read_state_dict(tmp_path / "w.pth"), {})
    wanted = {**layout(name)["options"], "test_img_size": None}
    assert made.config == TopiqConfig.from_dict(wanted) and not made.training
    loaded = made.state_dict()
    assert shapes(loaded) == shapes(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert not any(b.is_meta for b in made.buffers())
    assert made.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize("name", ["nr_res50", "nr_swin"])
def test_what_a_network_never_needs_may_be_missing(name: str) -> None:
    spare = r"num_batches_tracked|relative_position_index|attn_mask|semantic_model\.(norm|head)\."
    whole = official(name)
    state = {key: value for key, value in whole.items() if not re.search(spare, key)}
    assert 0 < len(state) < len(whole)
    loaded = build_topiq(state, {}).state_dict()
    assert shapes(loaded) == shapes(whole)
    for key in whole.keys() - state.keys():
        kept = re.search("index|mask", key)
        assert torch.equal(loaded[key], whole[key] if kept else torch.zeros_like(loaded[key]))


def test_other_files_are_refused_by_their_keys(tmp_path: Path) -> None:
    state = dict(build({**SMALL, "use_ref": False}).state_dict())
    lost = "attn_pool.norm1.weight"
    odd = {**state, "odd.key": torch.ones(1), "score_linear.0.bias": torch.ones(3)}
    del odd[lost]
    with pytest.raises(WeightsError) as caught:
        build_topiq(odd, {})
    for part in (f"missing {lost}", "unexpected odd.key", "score_linear.0.bias has shape (3,)"):
        assert part in str(caught.value)
    backbone = {k: v for k, v in state.items() if k.startswith("semantic_model.")}
    torch.save(backbone, tmp_path / "backbone.pth")
    with pytest.raises(WeightsError, match=r"TOPIQ.*missing dim_reduce.*Use the checkpoint"):
        import_file(tmp_path / "backbone.pth")
    with pytest.raises(WeightsError, match="maps of 7"):
        build_topiq({**state, "dim_reduce.0.0.weight": torch.ones(32, 7, 1, 1)}, {})
    with pytest.raises(WeightsError, match=r"dim_reduce.0.0.weight has shape \(\)"):
        build_topiq({**state, "dim_reduce.0.0.weight": torch.tensor(1.0)}, {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 3}, "no options depth"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"num_heads": 0}, "do not fit"),
        ({"num_heads": "many"}, "Correct the card"),
        ({"activation": "elu"}, "gelu"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], words: str) -> None:
    state = dict(build({**SMALL, "use_ref": False}).state_dict())
    with pytest.raises(WeightsError, match=words):
        build_topiq(state, options)


def test_windows_of_another_size_are_refused() -> None:
    state = official("nr_swin")
    key = "semantic_model.layers.0.blocks.0.attn.relative_position_index"
    with pytest.raises(WeightsError, match="relative_position_index has other values"):
        build_topiq({**state, key: state[key] + 1}, {})


@pytest.mark.parametrize("use_ref", [True, False])
def test_every_visible_option_is_inferred(use_ref: bool) -> None:
    options = {
        **SMALL,
        "use_ref": use_ref,
        "num_class": 5,
        "num_attn_layers": 2,
        "gate_channels": 16,
        "distortions": 7,
    }
    with torch.device("meta"):
        state = CFANet(TopiqConfig.from_dict(options)).state_dict()
    assert infer_topiq_config(state, {}) == TopiqConfig.from_dict(options)
    hidden = {"activation": "relu", "num_heads": 8, "test_img_size": 64}
    found = infer_topiq_config(state, {**hidden, "num_class": 5})
    assert found == TopiqConfig.from_dict({**options, **hidden})
    with pytest.raises(WeightsError, match=r"state num_class=3, but the weights .* with 5"):
        infer_topiq_config(state, {"num_class": 3})


@pytest.mark.parametrize("half", [False, True])
def test_a_stored_network_gives_the_same_score(tmp_path: Path, half: bool) -> None:
    torch.manual_seed(0)
    model = build({**SMALL, "use_ref": True})
    path = write_safetensors(model.state_dict(), tmp_path / "w.safetensors", half)
    seed = torch.get_rng_state()
    loaded = build_topiq(read_state_dict(path), {})
    assert torch.equal(seed, torch.get_rng_state())
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert not loaded.semantic_model.bn1.weight.requires_grad
    x, y = torch.rand(2, 1, 3, 64, 64)
    with torch.inference_mode():
        expected, found = model(x, y), loaded(x, y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2 if half else 0)


def install(tmp_path: Path, **options: Any) -> ModelCard:
    torch.manual_seed(0)
    state = build({**SMALL, "use_ref": False, **options}).state_dict()
    torch.save({"params": state}, tmp_path / "own.pth")
    return import_file(tmp_path / "own.pth")


def test_an_unknown_file_gets_a_card(tmp_path: Path) -> None:
    card = install(tmp_path)
    assert (card.name, card.task, card.architecture) == ("own", "quality", "topiq")
    assert card.classes == ("score",) and card.input.normalisation == "unit"
    assert TopiqConfig.from_dict(dict(card.options)) == TopiqConfig(**SMALL, use_ref=False)
    assert Catalogue().get("own") == card
    with pytest.raises(WeightsError, match="leave --whole away"):
        import_file(tmp_path / "own.pth", {"input": {"mode": "resize"}}, "other")


def test_what_the_weights_do_not_show_is_kept(tmp_path: Path) -> None:
    install(tmp_path)
    hidden = {"test_img_size": 64, "activation": "relu"}
    card = import_file(tmp_path / "own.pth", {"options": hidden, "license": "MIT"}, "other")
    wanted = TopiqConfig(**SMALL, use_ref=False, **hidden)
    assert TopiqConfig.from_dict(dict(card.options)) == wanted and card.license == "MIT"


def test_grades_are_the_classes_of_a_distribution(tmp_path: Path) -> None:
    assert install(tmp_path, num_class=5).classes == ("1", "2", "3", "4", "5")


def test_the_store_lends_both_forms(tmp_path: Path) -> None:
    card = install(tmp_path)
    store = ModelStore(1 << 30, build_model)
    x = torch.rand(1, 3, 70, 90)
    with store.lease(card, "cpu", "float32", "plain") as plain, torch.inference_mode():
        assert isinstance(plain, CFANet) and plain.config.num_heads == 4
        expected = plain(x)
    with store.lease(card, "cpu", "float32") as fast, torch.inference_mode():
        torch.testing.assert_close(fast(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": {"inter_dim": 64}}, r"state inter_dim=64.*network with 32"),
        ({"options": {"depth": 64}}, "no options depth"),
        ({"input": {"normalisation": "minmax"}}, "need 'unit'"),
    ],
)
def test_a_card_must_fit_its_weights(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    card = ModelCard.from_dict({**install(tmp_path).to_dict(), **change})
    with pytest.raises(WeightsError, match=words):
        build_model(card, "plain")
