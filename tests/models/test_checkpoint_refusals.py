"""Whatever edgeprune cannot run correctly is refused in one sentence that names what was found."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeprune.models import open_checkpoint
from edgeprune_runtime.errors import CheckpointError
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint

Damage = Callable[[Path], object]
INDEX = "model.safetensors.index.json"


def read_all(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    for name in checkpoint.weights.names():
        checkpoint.weights.read(name)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_all(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message, "says what was found and what to do"
    return message


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def config(**changes: Any) -> Damage:
    return lambda folder: edit_json(folder / "config.json", lambda values: values.update(changes))


def part(key: str, **changes: Any) -> Damage:
    return lambda folder: edit_json(folder / "config.json", lambda values: values[key].update(changes))


def vision(**changes: Any) -> Damage:
    return part("vision_config", **changes)


def text(**changes: Any) -> Damage:
    return part("text_config", **changes)


def image(**changes: Any) -> Damage:
    return lambda folder: edit_json(
        folder / "processor_config.json", lambda values: values["image_processor"].update(changes)
    )


def written(name: str, content: str | bytes) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        values = load_file(folder / "model.safetensors")
        change(values)
        save_file(values, folder / "model.safetensors")

    return damage


def renamed_to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def cut(size: int) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return damage


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        values = json.loads(data[8 : 8 + length])
        change(values)
        new = json.dumps(values).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return damage


NEWLINE = "image_newline"
QUERY = "language_model.model.layers.0.self_attn.q_proj.weight"
EMBED = "language_model.model.embed_tokens.weight"

FILES: dict[str, tuple[Damage, str]] = {
    "no config": (without("config.json"), "has no config.json"),
    "config is no JSON": (written("config.json", "{"), "config.json cannot be read as JSON"),
    "config is a list": (written("config.json", "[]"), "config.json holds a list"),
    "config is deep": (written("config.json", "[" * 100000), "config.json cannot be read as JSON"),
    "config is binary": (written("config.json", b"\xff\xfe\x00"), "config.json cannot be read as JSON"),
    "no weights": (without("model.safetensors"), "holds no weights"),
    "pickled weights": (renamed_to_pickle, "holds pickled weights only (pytorch_model.bin)"),
    "adapter": (adapter_only, "holds an adapter only"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer.json"),
    "tokenizer is no JSON": (written("tokenizer.json", "x"), "tokenizer.json cannot be read as JSON"),
    "tokenizer is empty": (written("tokenizer.json", "{}"), "tokenizer.json has no model"),
    "tokenizer is damaged": (
        written("tokenizer.json", '{"model": {"vocab": {"a": "b"}}}'),
        "tokenizer.json has a damaged vocabulary",
    ),
    "no processor": (without("processor_config.json"), "has no image processor settings"),
    "git lfs pointer": (written("model.safetensors", "version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
    "empty weights": (cut(0), "too few for a safetensors file"),
    "cut in the header": (cut(100), "too few for a safetensors file"),
    "cut in the data": (cut(600000), "was cut short"),
    "cut by one byte": (cut(-1), "was cut short"),
    "header is no JSON": (written("model.safetensors", struct.pack("<Q", 4) + b"{{{{"), "damaged safetensors header"),
    "header is a list": (written("model.safetensors", struct.pack("<Q", 2) + b"[]"), "damaged safetensors header"),
    "negative offset": (header(lambda h: h[NEWLINE].update(data_offsets=[-4, 4])), "damaged entry for image_newline"),
    "no shape": (header(lambda h: h[NEWLINE].pop("shape")), "damaged entry for image_newline"),
    "wrong length": (header(lambda h: h[NEWLINE].update(shape=[63])), "gives image_newline 256 bytes"),
}

WEIGHTS: dict[str, tuple[Damage, str]] = {
    "missing": (tensors(lambda t: t.pop(QUERY)), "layers.0.q.weight is missing"),
    "missing newline": (tensors(lambda t: t.pop(NEWLINE)), "newline is missing"),
    "missing head": (tensors(lambda t: t.pop("language_model.lm_head.weight")), "head.weight is missing"),
    "shape": (tensors(lambda t: t.update({QUERY: torch.ones(64, 63)})), "has shape [64, 63]; expected [64, 64]"),
    "rank": (tensors(lambda t: t.update({QUERY: torch.ones(2, 64, 64)})), "has shape [2, 64, 64]; expected [64, 64]"),
    "scalar": (tensors(lambda t: t.update({NEWLINE: torch.tensor(1.0)})), "has shape"),
    "int8": (tensors(lambda t: t.update({QUERY: torch.ones(64, 64, dtype=torch.int8)})), "stored as I8"),
    "float8": (tensors(lambda t: t.update({QUERY: torch.ones(64, 64).to(torch.float8_e4m3fn)})), "stored as F8_E4M3"),
    "bool": (tensors(lambda t: t.update({NEWLINE: torch.ones(64, dtype=torch.bool)})), "stored as BOOL"),
    "nan": (tensors(lambda t: t[EMBED][3].fill_(float("nan"))), "embed.weight (" + EMBED + ") holds NaN"),
    "infinity": (
        tensors(lambda t: t[QUERY][0].fill_(float("inf"))),
        "layers.0.q.weight (" + QUERY + ") holds NaN or inf",
    ),
    "unknown": (tensors(lambda t: t.update({"model.audio.weight": torch.ones(1)})), "hold model.audio.weight"),
    "lora": (
        tensors(lambda t: t.update({QUERY.replace("weight", "lora_A.weight"): torch.ones(1)})),
        "no part of a LLaVA model",
    ),
    "one layer too many": (
        tensors(lambda t: t.update({QUERY.replace("layers.0", "layers.2"): torch.ones(64, 64)})),
        "layers.2.self_attn.q_proj.weight, for which config.json leaves no place",
    ),
    "unwanted bias": (
        tensors(lambda t: t.update({QUERY.replace("q_proj.weight", "o_proj.bias"): torch.ones(64)})),
        "o_proj.bias, for which config.json leaves no place",
    ),
    "twice": (tensors(lambda t: t.update({"model.image_newline": torch.ones(64)})), "both "),
    "fewer layers in config": (text(num_hidden_layers=1, layer_types=None), "layers.1."),
    "more layers in config": (text(num_hidden_layers=3, layer_types=None), "layers.2.norm1.weight is missing"),
    "other vocabulary": (text(vocab_size=200), "has shape [133, 64]; expected [200, 64]"),
    "other width": (text(intermediate_size=256), "expected [256, 64]"),
    "other tower": (vision(model_type="vit"), "missing"),
    "positions of another size": (vision(image_size=56), "56"),
}

CONFIG: dict[str, tuple[Damage, str]] = {
    "family": (
        config(model_type="llava_onevision"),
        "model_type is 'llava_onevision'; supported are llava_next and llava",
    ),
    "no family": (lambda f: edit_json(f / "config.json", lambda v: v.pop("model_type")), "model_type is missing"),
    "no text_config": (lambda f: edit_json(f / "config.json", lambda v: v.pop("text_config")), "has no text_config"),
    "null text_config": (config(text_config=None), "has no text_config"),
    "text_config is a text": (config(text_config="llama"), "text_config is 'llama'; expected an object"),
    "no vision_config": (
        lambda f: edit_json(f / "config.json", lambda v: v.pop("vision_config")),
        "has no vision_config",
    ),
    "quantised": (config(quantization_config={"bits": 4}), "has a quantization_config"),
    "quantised text": (text(quantization_config={"bits": 4}), "text_config has a quantization_config"),
    "siglip": (vision(model_type="siglip_vision_model"), "a tower without a class token"),
    "registers": (
        vision(model_type="dinov2_with_registers"),
        "supported towers are clip_vision_model, vit, dinov2, deit",
    ),
    "whole clip": (vision(model_type="clip"), "model_type is 'clip'"),
    "deit": (vision(model_type="deit"), "distillation token does not fit"),
    "no tower type": (
        lambda f: edit_json(f / "config.json", lambda v: v["vision_config"].pop("model_type")),
        "is missing",
    ),
    "gemma": (text(model_type="gemma"), "supported decoders are llama, mistral, qwen2"),
    "mixture": (text(model_type="qwen2_moe"), "supported decoders are llama, mistral, qwen2"),
    "experts": (text(num_local_experts=8), "num_local_experts is 8"),
    "full strategy": (config(vision_feature_select_strategy="full"), "vision_feature_select_strategy is 'full'"),
    "negative layers": (text(num_hidden_layers=-1), "num_hidden_layers is -1"),
    "no layers": (vision(num_hidden_layers=0), "num_hidden_layers is 0"),
    "layers as text": (text(num_hidden_layers="2"), "num_hidden_layers is '2'"),
    "layers as truth": (text(num_hidden_layers=True), "num_hidden_layers is True"),
    "layers as fraction": (text(num_hidden_layers=2.5), "num_hidden_layers is 2.5"),
    "feature layer beyond": (config(vision_feature_layer=-4), "vision_feature_layer is -4; expected -3..-1 or 1..3"),
    "feature layer above": (config(vision_feature_layer=4), "vision_feature_layer is 4"),
    "embeddings as features": (config(vision_feature_layer=0), "vision_feature_layer is 0"),
    "feature layers": (config(vision_feature_layer=[-2, -1]), "vision_feature_layer is [-2, -1]"),
    "feature layer as text": (config(vision_feature_layer="last"), "vision_feature_layer is 'last'"),
    "heads": (vision(num_attention_heads=5), "hidden_size is 48; expected a multiple of num_attention_heads = 5"),
    "decoder heads": (text(num_attention_heads=5), "hidden_size is 64; expected a multiple"),
    "head_dim": (text(head_dim=32), "expected [128, 64]"),
    "odd head_dim": (text(head_dim=15), "heads are 15 wide"),
    "kv heads": (text(num_key_value_heads=3), "num_key_value_heads is 3; expected a divisor"),
    "tower activation": (vision(hidden_act="mish"), "hidden_act is 'mish'"),
    "decoder activation": (text(hidden_act="gelu"), "hidden_act is 'gelu'; expected 'silu'"),
    "projector activation": (config(projector_hidden_act="tanh"), "projector_hidden_act is 'tanh'"),
    "projector bias": (config(multimodal_projector_bias=False), "linear_1.bias, for which config.json leaves no place"),
    "dynamic rope": (text(rope_parameters={"rope_type": "dynamic", "factor": 2.0}), "of type 'dynamic'"),
    "mrope": (text(rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]}), "mrope"),
    "epsilon": (text(rms_norm_eps=0), "rms_norm_eps is 0"),
    "grey tower": (vision(num_channels=1), "num_channels is 1"),
    "oblong tower": (vision(image_size=[48, 56]), "image_size is [48, 56]"),
    "patch does not divide": (vision(image_size=50), "image_size is 50; expected a multiple of patch_size = 8"),
    "layer types": (text(layer_types=["full_attention"]), "layer_types is ['full_attention']; expected 2 entries"),
    "window without switch": (text(layer_types=["full_attention", "sliding_attention"]), "use_sliding_window is False"),
    "image token": (config(image_token_index=999), "image_token_index is 999, which tokenizer.json does not have"),
    "negative image token": (config(image_token_index=-1), "image_token_index is -1"),
    "tokenizer too large": (text(vocab_size=100), "tokenizer.json has token id 132, the model embeds 100 ids"),
    "eos": (lambda f: edit_json(f / "generation_config.json", lambda v: v.update(eos_token_id="</s>")), "eos_token_id"),
}

PROCESSOR: dict[str, tuple[Damage, str]] = {
    "class": (image(image_processor_type="SiglipImageProcessor"), "image_processor_type is 'SiglipImageProcessor'"),
    "class of the other family": (image(image_processor_type="CLIPImageProcessor"), "expected one of LlavaNext"),
    "tile of another size": (image(crop_size={"height": 56, "width": 56}), "crop_size is"),
    "thumbnail of another size": (image(size={"shortest_edge": 96}), "size is {'shortest_edge': 96}; expected 48"),
    "size without meaning": (image(size={"longest_edge": 48}), "size is {'longest_edge': 48}"),
    "negative size": (image(size=-48), "size is -48"),
    "no resize": (image(do_resize=False), "do_resize is False"),
    "unknown filter": (image(resample=9), "resample is 9"),
    "mean": (image(image_mean=[0.5, 0.5]), "image_mean is [0.5, 0.5]"),
    "std": (image(image_std=[0.5, 0.5, 0]), "image_std is [0.5, 0.5, 0]"),
    "pinpoints differ": (image(image_grid_pinpoints=[[96, 96]]), "image_grid_pinpoints differ"),
    "pinpoints in another order": (
        image(image_grid_pinpoints=[[96, 48], [48, 96], [96, 96]]),
        "image_grid_pinpoints differ",
    ),
    "pinpoints off the grid": (image(image_grid_pinpoints=[[100, 96]]), "each a multiple of the tile, 48"),
    "pinpoints as numbers": (config(image_grid_pinpoints=[96, 96]), "image_grid_pinpoints is [96, 96]"),
}


def run(case: tuple[Damage, str], tmp_path: Path, **variant: Any) -> None:
    damage, fragment = case
    folder = own_copy(tiny_checkpoint(**variant), tmp_path)
    damage(folder)
    assert fragment in refusal(folder)


@pytest.mark.parametrize("case", FILES)
def test_damaged_and_missing_files_are_refused(case: str, tmp_path: Path) -> None:
    run(FILES[case], tmp_path)


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    run(WEIGHTS[case], tmp_path)


@pytest.mark.parametrize("case", CONFIG)
def test_configurations_outside_the_supported_range_are_refused(case: str, tmp_path: Path) -> None:
    run(CONFIG[case], tmp_path)


@pytest.mark.parametrize("case", PROCESSOR)
def test_picture_settings_without_fixed_tiles_are_refused(case: str, tmp_path: Path) -> None:
    run(PROCESSOR[case], tmp_path)


@pytest.mark.parametrize(
    "file", ["../outside.safetensors", "/etc/passwd", "sub/model.safetensors", "pytorch_model.bin"]
)
def test_an_index_stays_inside_its_folder_and_format(file: str, tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(shards=2), tmp_path)
    edit_json(folder / INDEX, lambda values: values["weight_map"].update({NEWLINE: file}))
    assert f"{INDEX} names {file!r}" in refusal(folder)


def test_index_and_shards_must_agree(tmp_path: Path) -> None:
    source = tiny_checkpoint(shards=2)
    table = json.loads((source / INDEX).read_text())["weight_map"]
    first, last = min(table.values()), max(table.values())

    folder = own_copy(source, tmp_path / "missing")
    (folder / last).unlink()
    assert f"names {last}, which is missing" in refusal(folder)

    folder = own_copy(source, tmp_path / "moved")
    edit_json(folder / INDEX, lambda values: values["weight_map"].update({NEWLINE: last}))
    assert table[NEWLINE] == first
    assert f"places {NEWLINE} in {last}, which does not hold it" in refusal(folder)

    folder = own_copy(source, tmp_path / "unlisted")
    edit_json(folder / INDEX, lambda values: values["weight_map"].pop(NEWLINE))
    assert f"{first} holds {NEWLINE}, which {INDEX} does not place there" in refusal(folder)

    folder = own_copy(source, tmp_path / "empty")
    (folder / INDEX).write_text("{}")
    assert "has no weight_map" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"do_center_crop": False}, "size is"),
        ({"crop_size": 56}, "crop_size is 56; expected 48 x 48"),
        ({"do_center_crop": False, "size": {"height": 48, "width": 56}}, "size is"),
        ({"image_processor_type": "LlavaNextImageProcessor"}, "image_processor_type is"),
    ],
)
def test_llava_needs_one_tile_of_the_towers_size(changes: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    run((image(**changes), fragment), tmp_path, family="llava")


def test_llava_squashing_and_padding_variants_are_understood(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(family="llava"), tmp_path)
    image(size={"height": 48, "width": 48}, do_center_crop=False, do_pad=True)(folder)
    preprocess = open_checkpoint(folder).spec.preprocess
    assert (preprocess.resize_exact, preprocess.resize_shortest, preprocess.pad_to_square) == ((48, 48), None, True)
    image(size=48, crop_size=48, do_center_crop=True, do_pad=False, image_processor_type="CLIPImageProcessor")(folder)
    preprocess = open_checkpoint(folder).spec.preprocess
    assert (preprocess.resize_exact, preprocess.resize_shortest, preprocess.pad_to_square) == (None, 48, False)


def test_a_shared_tiny_checkpoint_is_never_refused() -> None:
    read_all(tiny_checkpoint())
