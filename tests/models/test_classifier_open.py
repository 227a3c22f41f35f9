"""What is read from classifiers in Hugging Face layout, in timm folders and in bare files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from edgeprune.models import open_classifier
from edgeprune.models.classifiers.config import saved_config, saved_processor
from edgeprune.models.classifiers.names import from_huggingface
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.models.spec import Width
from edgeprune_profiles.measure.picture import draw_picture
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.tiling import Single
from tests.checkpoints import edit_json
from tests.classifiers import (
    CLASSES,
    PX,
    Kept,
    bare_file,
    huggingface_folder,
    made_model,
    pruned_folder,
    timm_folder,
    timm_tensors,
)

VIT: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "size": {"height": PX, "width": PX}, "resample": 3}


_SAVED = {
    "tower.class_token": "embeddings.cls_token",
    "tower.distillation_token": "embeddings.distillation_token",
    "tower.position": "embeddings.position_embeddings",
    "tower.patch": "embeddings.patch_embeddings.projection",
    "tower.norm": "layernorm",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    **{part: f"attention.{part}_proj" for part in "qkvo"},
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def huggingface_name(name: str, kind: str) -> str:
    """transformers 5's name of one of our tensors; `kind` is the tower's, "vit" or "deit"."""
    part, _, end = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
    if part == "classifier":
        return name
    block = re.match(r"tower\.(\d+)\.(.+)", part)
    found = f"layers.{block[1]}.{_SAVED[block[2]]}" if block else _SAVED[part]
    return ".".join(filter(None, (kind, found, end)))


@pytest.mark.parametrize("names", ["old", "new"])
@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_a_hugging_face_folder(tmp_path: Path, kind: str, names: str) -> None:
    model = made_model(kind)
    classifier = open_classifier(huggingface_folder(tmp_path, model, names))
    spec, tower = classifier.spec, classifier.spec.vision
    assert (tower.kind, tower.layers, tower.hidden, tower.heads, tower.mlp) == (kind, 3, 48, 3, 96)
    assert (tower.prefix_tokens, tower.eps, tower.widths) == (2 if kind == "deit" else 1, 1e-6, ())
    assert (spec.classes, spec.labels, spec.source) == (
        CLASSES,
        tuple(f"thing {i}" for i in range(CLASSES)),
        str(tmp_path),
    )
    assert classifier.config["model_type"] == kind
    state = model.state_dict()
    assert len(classifier.weights.names()) == len(state)
    for name in classifier.weights.names():
        stored = state[huggingface_name(name, kind)]
        assert np.array_equal(classifier.weights.read(name), stored.reshape(classifier.weights.shape(name)).numpy())
        assert from_huggingface(huggingface_name(name, kind)) == name


def test_place_holders_are_no_labels_and_two_classes_are_the_default(tmp_path: Path) -> None:
    folder = huggingface_folder(tmp_path, made_model())
    edit_json(folder / "config.json", lambda c: c.update(id2label={str(i): f"LABEL_{i}" for i in range(CLASSES)}))
    assert open_classifier(folder).spec.labels is None
    edit_json(folder / "config.json", lambda c: (c.pop("id2label"), c.update(num_labels=CLASSES)))
    assert open_classifier(folder).spec.classes == CLASSES


def test_a_timm_folder(tmp_path: Path) -> None:
    model = made_model()
    spec = open_classifier(timm_folder(tmp_path, model, label_names=[f"n{i}" for i in range(CLASSES)])).spec
    assert (spec.vision.heads, spec.vision.head_dim, spec.vision.mlp, spec.vision.image_px) == (3, 16, 96, PX)
    assert spec.labels == tuple(f"n{i}" for i in range(CLASSES))
    tile = spec.picture.tile
    assert (tile.mean, tile.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (spec.picture.tiling, tile.resample) == (Single(resize_shortest=35), 3)


def test_settings_of_an_older_timm_folder_stand_beside_the_architecture(tmp_path: Path) -> None:
    folder = timm_folder(tmp_path, made_model(), interpolation="bilinear", crop_mode="squash")
    edit_json(folder / "config.json", lambda c: c.update(c.pop("pretrained_cfg")))
    picture = open_classifier(folder).spec.picture
    assert picture.tiling == Single(resize_exact=(35, 35))
    assert (picture.tile.resample, picture.tile.mean) == (2, (0.485, 0.456, 0.406))


def test_a_finetuned_timm_folder_has_its_own_classes_and_labels(tmp_path: Path) -> None:
    """timm keeps the base model's pretrained_cfg; what config.json says itself stands above it."""
    names = [f"n{i}" for i in range(CLASSES)]
    folder = timm_folder(tmp_path, made_model(), num_classes=1000, label_names=["base"] * 1000)
    edit_json(folder / "config.json", lambda c: c.update(label_names=names))
    spec = open_classifier(folder).spec
    assert (spec.classes, spec.labels) == (CLASSES, tuple(names))


def test_an_empty_pretrained_cfg_is_the_older_form_with_its_older_labels(tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(CLASSES)]
    folder = timm_folder(tmp_path, made_model(), interpolation="bilinear")
    edit_json(folder / "config.json", lambda c: c.update(c.pop("pretrained_cfg"), pretrained_cfg={}, labels=names))
    spec = open_classifier(folder).spec
    assert (spec.picture.tile.resample, spec.labels) == (2, tuple(names))


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_names_of_wrapped_models_are_those_inside(wrapper: str, tmp_path: Path) -> None:
    model = made_model(hidden=128, heads=2)
    plain = open_classifier(bare_file(tmp_path / "plain.safetensors", model))
    wrapped = {wrapper + name: tensor.contiguous() for name, tensor in timm_tensors(model).items()}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    found = open_classifier(tmp_path / "wrapped.safetensors")
    assert np.array_equal(found.weights.read("tower.1.q.weight"), plain.weights.read("tower.1.q.weight"))
    folder = timm_folder(tmp_path / "folder", made_model())
    wrapped = {wrapper + name: tensor.contiguous() for name, tensor in timm_tensors(made_model()).items()}
    save_file(wrapped, folder / "model.safetensors")
    assert open_classifier(folder).spec.vision.layers == 3


def test_a_tensor_that_stands_with_and_without_its_wrapper_is_refused(tmp_path: Path) -> None:
    values = {name: tensor.contiguous() for name, tensor in timm_tensors(made_model(hidden=128, heads=2)).items()}
    save_file({**values, "module.pos_embed": values["pos_embed"].clone()}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="both .*pos_embed and .*pos_embed"):
        open_classifier(tmp_path / "a.safetensors")


def test_joint_queries_keys_and_values_become_three_tensors(tmp_path: Path) -> None:
    model = made_model(hidden=128, heads=2)
    weights = open_classifier(bare_file(tmp_path / "a.safetensors", model)).weights
    for part in "qkv":
        for end in ("weight", "bias"):
            stored = model.state_dict()[f"vit.layers.1.attention.{part}_proj.{end}"]
            assert np.array_equal(weights.read(f"tower.1.{part}.{end}"), stored.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_bare_file_says_its_shapes_and_the_rest_is_assumed(tmp_path: Path, dtype: torch.dtype) -> None:
    path = bare_file(tmp_path / "a.safetensors", made_model(hidden=128, heads=2), dtype)
    classifier = open_classifier(path)
    tower = classifier.spec.vision
    assert (tower.heads, tower.head_dim, tower.eps, tower.activation, tower.qkv_bias) == (2, 64, 1e-6, "gelu", True)
    picture = classifier.spec.picture
    assert (picture.tile.mean, picture.tile.std) == ((0.5,) * 3, (0.5,) * 3)
    assert picture.tiling == Single(resize_exact=(PX, PX))
    assert classifier.weights.dtype("tower.0.k.weight") == str(dtype).removeprefix("torch.")
    assert classifier.config == {}


def test_queries_keys_and_values_may_lack_a_bias(tmp_path: Path) -> None:
    model = made_model(hidden=128, heads=2, qkv_bias=False)
    for path in (bare_file(tmp_path / "a.safetensors", model), huggingface_folder(tmp_path / "b", model)):
        classifier = open_classifier(path)
        assert not classifier.spec.vision.qkv_bias and "tower.0.q.bias" not in classifier.weights.names()


def test_a_pruned_classifier_is_read_back_as_it_was_described(tmp_path: Path) -> None:
    model = made_model()
    keep = (Kept(0, (0, 2), tuple(range(40))), Kept(2, (1,), tuple(range(5, 96))))
    source = open_classifier(timm_folder(tmp_path / "source", model)).spec
    found = open_classifier(pruned_folder(tmp_path / "pruned", source, model, keep)).spec
    widths = (Width(2, 40), Width(1, 91))
    assert found == replace(source, source=found.source, vision=replace(source.vision, layers=2, widths=widths))


def test_a_bare_file_with_pruned_blocks_shows_their_widths(tmp_path: Path) -> None:
    tensors = timm_tensors(made_model(hidden=128, heads=2))
    tensors["blocks.1.attn.qkv.weight"] = (
        tensors["blocks.1.attn.qkv.weight"].reshape(3, 128, 128)[:, :64].reshape(192, 128)
    )
    tensors["blocks.1.attn.qkv.bias"] = tensors["blocks.1.attn.qkv.bias"].reshape(3, 128)[:, :64].reshape(192)
    tensors["blocks.1.attn.proj.weight"] = tensors["blocks.1.attn.proj.weight"][:, :64]
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "a.safetensors")
    classifier = open_classifier(tmp_path / "a.safetensors")
    assert classifier.spec.vision.widths == (Width(2, 256), Width(1, 256), Width(2, 256))
    expected = tensors["blocks.1.attn.qkv.weight"][64:128]
    assert np.array_equal(classifier.weights.read("tower.1.k.weight"), expected.numpy())


@pytest.mark.parametrize("processor", [
    VIT,
    {"feature_extractor_type": "ViTFeatureExtractor", "size": PX},
    {"image_processor_type": "DeiTImageProcessor", "size": 40, "crop_size": PX},
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 36}, "crop_size": PX, "resample": 2},
    None,
])  # fmt: skip
@pytest.mark.parametrize("size", [(50, 40), (33, 70), (32, 32)])
def test_pixels_are_those_of_transformers_own_processor(
    tmp_path: Path, processor: dict[str, Any] | None, size: tuple[int, int]
) -> None:
    from transformers import AutoImageProcessor

    folder = huggingface_folder(tmp_path, made_model(), processor=processor)
    spec = open_classifier(folder).spec
    if processor is None:
        (folder / "preprocessor_config.json").write_text(json.dumps({**VIT, "resample": 2}), encoding="utf-8")
    picture = draw_picture(*size, seed=1)
    expected = AutoImageProcessor.from_pretrained(folder, backend="pil")(picture, return_tensors="np").pixel_values[0]
    assert np.array_equal(pixels_from_image(picture, spec), expected)
    (folder / "preprocessor_config.json").write_text(json.dumps(saved_processor(spec)), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(saved_config(spec)), encoding="utf-8")
    assert open_classifier(folder).spec == spec, "what is saved says the same"


def test_deit_looks_at_the_middle_of_a_larger_square_by_default(tmp_path: Path) -> None:
    picture = open_classifier(huggingface_folder(tmp_path, made_model("deit"))).spec.picture
    assert picture.tiling == Single(resize_exact=(37, 37))
    assert (picture.tile.px, picture.tile.resample, picture.tile.std) == (PX, 3, (0.5,) * 3)


def test_pixels_of_a_timm_folder_are_a_centre_crop(tmp_path: Path) -> None:
    spec = open_classifier(timm_folder(tmp_path, made_model())).spec
    picture = Image.new("RGB", (90, 60), (255, 0, 0))
    pixels = pixels_from_image(picture, spec)
    assert pixels.shape == (3, PX, PX) and pixels.dtype == np.float32
    assert np.allclose(pixels[:, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], atol=1e-6)
    assert np.ptp(pixels, axis=(1, 2)).max() == 0
