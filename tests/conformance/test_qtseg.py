"""QTSeg against its conformance vectors, each at its own tolerance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits import load_rule
from torch import Tensor

from napari_cvsuite.images.resize import resize_nearest
from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig, build
from napari_cvsuite.segmentation import losses
from napari_cvsuite.segmentation.metrics import confusion

KIT = Path(__file__).parent / "qtseg"


rule = load_rule("qtseg")
VECTORS: dict[str, Any] = rule.load_vectors(str(KIT / "vectors.json"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", VECTORS["forward"], ids=lambda case: case["name"])
def test_forward(case: dict[str, Any]) -> None:
    rows = rule.compare(build, {**VECTORS, "forward": [case]}, verbose=False)
    assert len(rows) == 2
    assert all(row["ok"] for row in rows), rows


def test_all_forward_cases_are_there() -> None:
    assert len(VECTORS["forward"]) == 13


def test_intermediates() -> None:
    case = VECTORS["forward"][0]
    model = build(2)
    rule.apply_rule(model)
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    model.image_encoder.register_forward_hook(keep("encoder"))
    model.bridge.register_forward_hook(keep("bridge"))
    for s in (2, 1, 0):
        blocks, mlps, encode, up = model.mask_decoder.stage(s)
        blocks.register_forward_hook(keep(f"blocks_s{s}"))
        encode.register_forward_hook(keep(f"decoder.pe_s{s}"))
        up.register_forward_hook(keep(f"decoder.up_s{s}"))
        for i, mlp in enumerate(mlps):
            mlp.register_forward_hook(keep(f"decoder.query_s{s}.{i}"))
    model.mask_decoder.register_forward_hook(keep("decoder"))
    rule.run_case(model, case)
    for i, name in enumerate(("c2f_15", "c2f_18", "c2f_21")):
        outputs[f"encoder.{name}"] = outputs["encoder"][i]
        outputs[f"bridge.{i}"] = outputs["bridge"][i]
    for s in (2, 1, 0):
        outputs[f"decoder.tokens_s{s}"], outputs[f"decoder.feat_s{s}"] = outputs[f"blocks_s{s}"]
        for i in range(2):
            name = f"decoder.query_s{s}.{i}"
            outputs[name] = outputs[name][:, None]
    outputs["decoder.low_res_masks"] = outputs["decoder"][0]
    errors = {k: rule.check_tensor(outputs[k], v) for k, v in case["intermediates"].items()}
    assert len(errors) == 25
    assert max(errors.values()) < 5e-5, errors


@pytest.mark.parametrize(
    ("label", "layout"), json.loads((KIT / "state_dict_keys.json").read_text()).items()
)
def test_keys_shapes_and_counts(label: str, layout: dict[str, Any]) -> None:
    given = dict(part.split("=") for part in label.split(","))
    model = build(int(given["num_classes"]), int(given["n_channel"]))
    state = model.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == {
        k: v[0] for k, v in layout["keys"].items()
    }
    count = sum(p.numel() for p in model.parameters())
    assert count == layout["n_params"]
    assert QTSegConfig.from_state_dict(state) == model.config


LOSS_NAMES = {
    "CrossEntropyLoss": "cross_entropy",
    "BinaryDiceLoss": "binary_dice",
    "CategoricalDiceLoss": "categorical_dice",
    "BCELoss": "binary_cross_entropy",
    "FocalLoss": "focal",
}


def _loss_for(case: dict[str, Any]) -> Any:
    parts = zip(case["loss_type"], case["loss_weight"], strict=True)
    return losses.combined({LOSS_NAMES[name]: weight for name, weight in parts})


@pytest.mark.parametrize("case", VECTORS["train"], ids=lambda case: case["name"])
def test_train_step(case: dict[str, Any]) -> None:
    model: QTSeg = build(case["num_classes"], case["n_channel"])
    row = rule.compare_train(model, _loss_for(case), case)
    assert row["ok"], row


def _logits_and_target(entry: dict[str, Any]) -> tuple[Tensor, Tensor]:
    batch, planes, height, width = entry["shape"]
    logits = rule.make_input(entry["name"], batch, height, width, planes) * entry["logit_scale"]
    return logits, rule.make_target(entry["name"], batch, height, width, entry["num_classes"])


@pytest.mark.parametrize(
    ("entry", "name"),
    [(entry, name) for entry in VECTORS["losses"] for name in entry["values"]],
    ids=lambda v: v if isinstance(v, str) else f"{v['name']}x{v['logit_scale']}",
)
def test_losses(entry: dict[str, Any], name: str) -> None:
    value = losses.LOSSES[LOSS_NAMES[name]](*_logits_and_target(entry))
    assert value.item() == pytest.approx(entry["values"][name], abs=2e-6)


@pytest.mark.parametrize("name", ["metric1", "metric2"])
def test_binary_metrics(name: str) -> None:
    entry = next(e for e in VECTORS["metrics"] if e["name"] == name)
    logits, target = _logits_and_target(entry)
    target[2] = 0
    predicted = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1) == 1
    counted = [
        confusion(p.numpy(), t.numpy() == 1, paper=True)
        for p, t in zip(predicted, target, strict=True)
    ]
    wanted = entry["per_image"]
    for label, attribute in {
        "MAE": "mae",
        "Recall": "recall",
        "Precision": "precision",
        "Accuracy": "accuracy",
        "Dice": "dice",
        "IoU_polyp": "iou",
    }.items():
        got = [getattr(c, attribute) for c in counted]
        assert got == pytest.approx(wanted[label], abs=1e-6), label


def test_metrics_of_several_classes() -> None:
    entry = next(e for e in VECTORS["metrics"] if e["kind"] == "MultiBinary")
    logits, target = _logits_and_target(entry)
    predicted = logits.argmax(1).numpy()
    names = {"mae": "mae", "acc": "accuracy", "dice": "dice", "iou": "iou"}
    for metric, attribute in names.items():
        means = []
        for c in (1, 2):
            values = [
                getattr(confusion(p == c, t == c, paper=True), attribute)
                for p, t in zip(predicted, target.numpy(), strict=True)
            ]
            means.append(100 * np.mean(values))
            assert means[-1] == pytest.approx(entry["values_percent"][f"{metric}_{c}"], abs=1e-4)
        assert np.mean(means) == pytest.approx(entry["values_percent"][metric], abs=1e-4)


def test_metrics_of_two_empty_masks() -> None:
    entry = next(e for e in VECTORS["metrics"] if e["name"] == "both_empty")["per_image"]
    empty = np.zeros((8, 8), bool)
    counted = confusion(empty, empty, paper=True)
    assert counted.mae == entry["MAE"][0]
    assert counted.recall == entry["Recall"][0]
    assert counted.precision == entry["Precision"][0]
    assert counted.accuracy == entry["Accuracy"][0]
    assert counted.dice == entry["Dice"][0]
    assert counted.iou == entry["IoU_polyp"][0]


def test_metrics_at_the_original_resolution() -> None:
    """The padding is cropped and the binary map brought back to the size of the mask."""
    entry = next(e for e in VECTORS["metrics"] if e["name"] == "metric_ori")
    batch, planes, side, _ = entry["pred_shape"]
    _, height, width = entry["gt_shape"]
    logits = rule.make_input(entry["name"], batch, side, side, planes) * entry["logit_scale"]
    truth = rule.make_target(entry["name"], batch, height, width, planes)[0].numpy() == 1
    predicted = (logits.argmax(1)[0] == 1).numpy()[: height * side // width]
    counted = confusion(resize_nearest(predicted, (height, width)), truth, paper=True)
    for name, attribute in {"mae": "mae", "acc": "accuracy", "dice": "dice", "iou": "iou"}.items():
        got = 100 * getattr(counted, attribute)
        assert got == pytest.approx(entry["mean_percent"][name], abs=1e-4), name
