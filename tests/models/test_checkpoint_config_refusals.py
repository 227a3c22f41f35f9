"""Configurations that edgeprune cannot run correctly are refused in one sentence that names what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeprune.models import open_checkpoint
from edgeprune_runtime.pictures.tiling import Single
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.damage import Case, config, expect_refusal, image, text, vision

CONFIG: dict[str, Case] = {
    "family": (
        config(model_type="gemma3"),
        "model_type is 'gemma3'; supported are llava_next (LLaVA-NeXT), llava (LLaVA-1.5), ",
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
    **{
        f"tower {kind}": (vision(model_type=kind), "supported towers are clip_vision_model, vit, dinov2, deit, siglip")
        for kind in ("siglip", "siglip2_vision_model", "pixtral", "qwen2_vl", "swin", "convnext")
    },
    "siglip and the default strategy": (
        vision(model_type="siglip_vision_model"),
        "vision_feature_select_strategy is 'default'; expected 'full' (siglip has no class token",
    ),
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
    "layers beyond the weights": (
        text(num_hidden_layers=2**31),
        "text_config.num_hidden_layers is 2147483648; expected at most",
    ),
    "layers beyond the weights, by kind": (
        text(num_hidden_layers=2**31, model_type="qwen2", use_sliding_window=True, max_window_layers=1),
        "text_config.num_hidden_layers is 2147483648; expected at most",
    ),
    "blocks beyond the weights": (vision(num_hidden_layers=2**31), "vision_config.num_hidden_layers is 2147483648"),
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

PROCESSOR: dict[str, Case] = {
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


@pytest.mark.parametrize("case", CONFIG)
def test_configurations_outside_the_supported_range_are_refused(case: str, tmp_path: Path) -> None:
    expect_refusal(CONFIG[case], tmp_path)


@pytest.mark.parametrize("case", PROCESSOR)
def test_picture_settings_without_fixed_tiles_are_refused(case: str, tmp_path: Path) -> None:
    expect_refusal(PROCESSOR[case], tmp_path)


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
    expect_refusal((image(**changes), fragment), tmp_path, family="llava")


@pytest.mark.parametrize("family", ["llava", "llava_next"])
@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (config(vision_feature_select_strategy="default"), "strategy is 'default'; expected 'full'"),
        (
            lambda f: edit_json(f / "config.json", lambda v: v.pop("vision_feature_select_strategy")),
            "strategy is missing; expected 'full'",
        ),
        # 54 pixels hold 6 patches of 8, and 6 pixels more: that could be 6 patches of 9 as well.
        (vision(image_size=54), "image_size is 54; expected a multiple of patch_size = 8, or fewer pixels more than"),
        (vision(image_size=7), "image_size is 7; expected a multiple of patch_size = 8"),
    ],
)
def test_what_siglip_needs(family: str, damage: Any, fragment: str, tmp_path: Path) -> None:
    expect_refusal((damage, fragment), tmp_path, family=family, tower="siglip")


def test_siglip_needs_its_whole_picture(tmp_path: Path) -> None:
    case = (image(size={"height": 48, "width": 48}), "expected 52 x 52, the image size of the vision tower")
    expect_refusal(case, tmp_path, family="llava", tower="siglip")


def test_llava_squashing_and_padding_variants_are_understood(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(family="llava"), tmp_path)
    image(size={"height": 48, "width": 48}, do_center_crop=False, do_pad=True)(folder)
    assert open_checkpoint(folder).spec.picture.tiling == Single(resize_exact=(48, 48), pad_to_square=True)
    image(size=48, crop_size=48, do_center_crop=True, do_pad=False, image_processor_type="CLIPImageProcessor")(folder)
    assert open_checkpoint(folder).spec.picture.tiling == Single(resize_shortest=48, pad_to_square=False)
