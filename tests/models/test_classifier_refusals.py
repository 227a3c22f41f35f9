"""Classifiers that edgeprune cannot run correctly are refused in one sentence that names what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeprune.errors import CheckpointError
from edgeprune.models.config.section import Section
from edgeprune.models.config.structure_key import structure_entry, widths_from_config
from edgeprune.models.spec import Width
from tests.checkpoints import edit_json
from tests.classifiers import bare_file, huggingface_folder, made_model, read_all, timm_folder
from tests.damage import Damage, config, cut, renamed_to_pickle, tensors, without, written

Q = "vit.layers.1.attention.q_proj.weight"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    message = str(caught.value)
    assert "\n" not in message and ";" in message, "one sentence: what was found and what to do"
    return message


def structure(value: Any) -> Damage:
    return config(edgeprune={"structure": {"tower": value}})


def settings(**changes: Any) -> Damage:
    return lambda folder: edit_json(folder / "config.json", lambda values: values["pretrained_cfg"].update(changes))


def processor(content: str) -> Damage:
    return written("preprocessor_config.json", content)


def added(name: str, *shape: int) -> Damage:
    return tensors(lambda values: values.update({name: torch.zeros(shape or (48,))}))


def first_infinite(values: dict[str, torch.Tensor]) -> None:
    values[Q][0, 0] = float("nan")


HUGGING_FACE: dict[str, tuple[Damage, str]] = {
    "no config": (without("config.json"), "has no config.json"),
    "another family": (config(model_type="resnet"), "model_type is 'resnet'; expected one of vit, deit"),
    "no head": (config(architectures=["ViTModel"]), "expected ['ViTForImageClassification']"),
    "two heads": (
        config(model_type="deit", architectures=["DeiTForImageClassificationWithTeacher"]),
        "expected ['DeiTForImageClassification']",
    ),
    "no architecture": (config(architectures=None), "architectures is None"),
    "quantised": (config(quantization_config={"bits": 4}), "has a quantization_config"),
    "heads of another width": (
        config(head_dim=8),
        "head_dim is 8; expected hidden_size / num_attention_heads = 48 / 3",
    ),
    "heads that do not divide": (config(num_attention_heads=5), "expected a multiple of num_attention_heads = 5"),
    "grey pictures": (config(num_channels=1), "expected 3 (colour pictures)"),
    "activation": (config(hidden_act="mish"), "hidden_act is 'mish'"),
    "labels": (config(id2label={"1": "a", "2": "b"}), 'expected a name for each class, under "0"'),
    "no labels": (config(id2label={}), "expected a name for each class"),
    "classes": (
        config(id2label={str(i): str(i) for i in range(9)}),
        "classifier.weight has shape [7, 48]; expected [9, 48]",
    ),
    "layers": (config(num_hidden_layers=2), "for which config.json leaves no place"),
    "layers beyond the weights": (config(num_hidden_layers=2**31), "num_hidden_layers is 2147483648; expected at most"),
    "more layers": (config(num_hidden_layers=4), "tower.3.norm1.weight is missing"),
    "mlp": (config(intermediate_size=95), "has shape [96, 48]; expected [95, 48] by config.json"),
    "processor": (processor('{"image_processor_type": "LlavaImageProcessor"}'), "for classifiers"),
    "picture size": (processor('{"size": {"height": 224, "width": 224}}'), "expected 32 x 32"),
    "no resize": (processor('{"size": 32, "do_resize": false}'), "do_resize is False"),
    "widths are no list": (structure({"0": [1, 1]}), "expected a list of 3 pairs"),
    "too few widths": (structure([[3, 96], [3, 96]]), "expected a list of 3 pairs"),
    "more heads": (structure([[3, 96], [4, 96], [3, 96]]), "expected pairs of integers from [1, 1] to [3, 96]"),
    "more channels": (structure([[3, 97], [3, 96], [3, 96]]), "expected pairs of integers from [1, 1] to [3, 96]"),
    "no heads": (structure([[0, 96], [3, 96], [3, 96]]), "expected pairs of integers"),
    "flags": (structure([[True, 96], [3, 96], [3, 96]]), "expected pairs of integers"),
    "no pair": (structure([[3, 96], [3], [3, 96]]), "expected pairs of integers"),
    "key is a text": (config(edgeprune="pruned"), "config.json.edgeprune is 'pruned'; expected an object"),
    "other widths": (structure([[3, 96], [2, 96], [3, 96]]), "has shape [48, 48]; expected [32, 48] by config.json"),
    "missing": (tensors(lambda values: values.pop(Q)), "tower.1.q.weight is missing"),
    "missing norm": (tensors(lambda values: values.pop("vit.layernorm.bias")), "tower.norm.bias is missing"),
    "missing head": (tensors(lambda values: values.pop("classifier.weight")), "classifier.weight is missing"),
    "nan": (tensors(first_infinite), f"({Q}) holds NaN or infinity"),
    "twice": (added("vit.encoder.layer.1.attention.attention.query.weight"), "the weights hold both"),
    "stray": (added("vit.embeddings.rotary"), "the weights hold vit.embeddings.rotary"),
    "second head": (added("distillation_classifier.weight"), "a distillation token with a head of its own"),
    "integers": (tensors(lambda values: values.update({Q: values[Q].to(torch.int8)})), "is stored as I8"),
    "cut": (cut(-1), "was cut short"),
    "pickle": (renamed_to_pickle, "holds pickled weights only"),
    "timm's names": (
        tensors(lambda values: values.update(cls_token=values.pop("vit.embeddings.cls_token"))),
        "timm's name",
    ),
}
TIMM: dict[str, tuple[Damage, str]] = {
    "architecture": (config(architecture="resnet50"), "architecture is 'resnet50'; expected vit or deit"),
    "clip": (config(architecture="vit_base_patch16_clip_224"), "expected vit or deit"),
    "model arguments": (config(model_args={"act_layer": "relu"}), "act_layer is 'relu'; expected no such argument"),
    "heads": (config(model_args={"num_heads": 5}), "expected a width that 5 heads share equally"),
    "pooling": (config(global_pool="avg"), "global_pool is 'avg'"),
    "classes": (config(num_classes=9), "num_classes is 9; expected 7"),
    "crop": (settings(crop_pct=1.1), "crop_pct is 1.1"),
    "crop mode": (settings(crop_mode="border"), "crop_mode is 'border'"),
    "interpolation": (settings(interpolation="random"), "interpolation is 'random'"),
    "size": (settings(input_size=[3, 64, 64]), "expected [3, 32, 32]"),
    "no mean": (settings(mean=None), "mean is None; expected three numbers"),
    "std": (settings(std=[0, 1, 1]), "expected three positive numbers"),
    "labels": (settings(label_names=["one"]), "label_names is no list of 7 names"),
    "distilled": (added("dist_token"), "a distillation token with a head of its own"),
    "registers": (added("reg_token"), "register tokens"),
    "layer scale": (added("blocks.0.ls1.gamma"), "layer scale"),
    "pre-norm": (added("norm_pre.weight"), "a norm before the first block"),
    "qk-norm": (added("blocks.0.attn.q_norm.weight"), "normed queries and keys"),
    "average pooling": (added("fc_norm.weight"), "pooling over patches"),
    "stray": (added("blocks.0.rope.freqs"), "the weights hold blocks.0.rope.freqs"),
    "a block is missing": (
        tensors(lambda values: [values.pop(name) for name in list(values) if name.startswith("blocks.1.")]),
        "tower.1.q.weight is missing",
    ),
    "no head": (
        tensors(lambda values: [values.pop(name) for name in ("head.weight", "head.bias")]),
        "classifier.weight is missing",
    ),
    "no blocks": (
        tensors(lambda values: [values.pop(name) for name in list(values) if name.startswith("blocks.")]),
        "tower.0.q.weight is missing",
    ),
    "odd qkv": (added("blocks.0.attn.qkv.weight", 143, 48), "expected queries, keys and values of equal size"),
    "part of a head": (added("blocks.0.attn.qkv.weight", 72, 48), "has 24 query rows; expected whole heads of 16"),
    "quantised qkv": (
        tensors(lambda v: v.update({"blocks.0.attn.qkv.weight": v["blocks.0.attn.qkv.weight"].to(torch.int8)})),
        "is stored as I8",
    ),
    "flat patches": (added("patch_embed.proj.weight", 48, 192), "expected 4 dimensions"),
    "positions": (added("pos_embed", 1, 16, 48), "has 16 rows; expected one for the class token and a square"),
    "output": (added("blocks.1.attn.proj.weight", 48, 32), "expected [48, 48] by config.json and the other tensors"),
}


@pytest.fixture(scope="module")
def model() -> Any:
    return made_model()


@pytest.mark.parametrize("case", HUGGING_FACE)
def test_a_hugging_face_folder_is_refused(case: str, tmp_path: Path, model: Any) -> None:
    damage, expected = HUGGING_FACE[case]
    huggingface_folder(tmp_path, model, "new")
    read_all(tmp_path)
    damage(tmp_path)
    assert expected in refusal(tmp_path)


@pytest.mark.parametrize("case", TIMM)
def test_a_timm_folder_is_refused(case: str, tmp_path: Path, model: Any) -> None:
    damage, expected = TIMM[case]
    timm_folder(tmp_path, model)
    read_all(tmp_path)
    damage(tmp_path)
    assert expected in refusal(tmp_path)


def test_files_that_are_no_bare_classifier_are_refused(tmp_path: Path, model: Any) -> None:
    (tmp_path / "vit.pth").write_bytes(b"\x80\x02")
    assert "never read" in refusal(tmp_path / "vit.pth")
    narrow = bare_file(tmp_path / "narrow.safetensors", model)
    assert "has 48 rows; expected a multiple of 64" in refusal(narrow)
    huggingface_folder(tmp_path / "hf", model)
    assert "give the folder" in refusal(tmp_path / "hf" / "model.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    assert "too few for a safetensors file" in refusal(tmp_path / "empty.safetensors")
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_a_bare_file_that_contradicts_itself_does_not_blame_a_configuration(tmp_path: Path) -> None:
    path = bare_file(tmp_path / "a.safetensors", made_model(hidden=128, heads=2))
    values = load_file(path)
    save_file({**values, "norm.weight": torch.ones(64)}, path)
    assert "config.json" not in refusal(path)


def test_the_structure_key_is_read_as_it_is_written() -> None:
    widths, most = (Width(2, 5), Width(1, 8)), Width(2, 8)
    section = Section("config.json", structure_entry({"tower": widths, "language": ()}))
    assert widths_from_config(section, "tower", 2, most) == widths
    assert widths_from_config(section, "language", 2, most) == ()
    assert structure_entry({"tower": ()}) == {}
    for entry in ({}, {"edgeprune": None}, {"edgeprune": {}}, structure_entry({"tower": (most, most)})):
        assert widths_from_config(Section("config.json", entry), "tower", 2, most) == ()
