"""Made checkpoints of Qwen-VL: published layouts of every age, and traps that transformers itself walks around."""

from __future__ import annotations

import filecmp
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tools.checkpoints.families import FAMILIES
from tools.checkpoints.recipe import Recipe
from tools.checkpoints.tensors import CLASSES, plan
from tools.checkpoints.write import make_checkpoint
from tools.make_checkpoint import read

every_variant = pytest.mark.parametrize("variant", QWEN_VARIANTS, ids=variant_name)
TURN = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]}]


def loaded(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


def in_json(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@every_variant
def test_transformers_finds_every_tensor_and_no_other(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert type(model) is CLASSES[variant["family"]]
    assert not any(report.values()), report


@every_variant
def test_a_folder_is_small_and_the_same_again(variant: dict[str, Any], tmp_path: Path) -> None:
    folder, again = tiny_checkpoint(**variant), make_checkpoint(tmp_path / "again", Recipe(**variant))
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(path.name for path in again.iterdir())
    assert filecmp.cmpfiles(folder, again, files, shallow=False) == (files, [], [])
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6


@every_variant
def test_the_configuration_is_read_as_the_recipe_says(variant: dict[str, Any]) -> None:
    recipe, config = Recipe(**variant), loaded(tiny_checkpoint(**variant)).config
    text, vision = config.text_config, config.vision_config
    heads = recipe.shape.heads
    width = recipe.head_dim or recipe.shape.hidden // heads
    rope = text.rope_parameters
    assert rope["rope_type"] == "default"
    assert rope["rope_theta"] == (221 if recipe.family == "qwen3_vl" else 126)
    assert rope["mrope_section"] == list(recipe.sections or (2, 3, 3))
    assert sum(rope["mrope_section"]) == width // 2
    assert text.num_key_value_heads == (heads if recipe.multi_head else recipe.kv_heads or recipe.shape.kv_heads)
    assert text.rms_norm_eps == (recipe.eps or 1e-6)
    assert (vision.spatial_merge_size, vision.temporal_patch_size) == (recipe.merge, 2)
    assert getattr(text, "sliding_window", None) is None
    if recipe.family == "qwen2_5_vl":
        assert (vision.window_size, tuple(vision.fullatt_block_indexes)) == (recipe.window_px, recipe.full_blocks)
    if recipe.family == "qwen3_vl":
        assert tuple(vision.deepstack_visual_indexes) == recipe.deepstack
        assert vision.num_position_embeddings == recipe.shape.patches**2


@every_variant
def test_config_json_has_the_form_that_was_asked_for(variant: dict[str, Any]) -> None:
    recipe, values = Recipe(**variant), in_json(tiny_checkpoint(**variant), "config.json")
    assert values["model_type"] == recipe.family
    assert values.get("_name_or_path") == recipe.called
    nested = recipe.config != "hub" or recipe.family == "qwen3_vl"
    assert ("text_config" in values) is nested
    at_root = recipe.config != "new" and recipe.family != "qwen3_vl"
    assert ("hidden_size" in values) is ("rope_scaling" in values) is at_root
    if at_root:
        assert values["rope_scaling"]["type"] == ("mrope" if recipe.config == "hub" else "default")
        assert values["sliding_window"] == 8
    if nested:
        new = recipe.config == "new"
        assert ("rope_parameters" in values["text_config"]) is new
        assert ("rope_scaling" in values["text_config"]) is not new


@every_variant
def test_the_head_is_tied_where_the_recipe_says_so(variant: dict[str, Any]) -> None:
    """A silent root ties by the decoder's word in 2 and 2.5, and never in 3."""
    folder = tiny_checkpoint(**variant)
    model = loaded(folder)
    tied = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert tied is bool(variant.get("tied"))
    if variant.get("silent_tie"):
        values = in_json(folder, "config.json")
        assert "tie_word_embeddings" not in values
        assert values["text_config"]["tie_word_embeddings"] is True


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_older_names_differ_only_for_two(family: str) -> None:
    names = {form: set(names_in(tiny_checkpoint(family=family, names=form))) for form in ("old", "new")}
    assert all(name.startswith(("model.visual.", "model.language_model.", "lm_head.")) for name in names["new"])
    if family == "qwen3_vl":
        assert names["old"] == names["new"]
    else:
        assert not any(name.startswith(("model.visual.", "model.language_model.")) for name in names["old"])


def names_in(folder: Path) -> list[str]:
    names: list[str] = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names += list(file.keys())
    return names


@every_variant
def test_the_two_moments_of_a_patch_differ(variant: dict[str, Any]) -> None:
    weight = loaded(tiny_checkpoint(**variant)).model.visual.patch_embed.proj.weight
    assert weight.shape[2] == 2
    assert (weight[:, :, 0] - weight[:, :, 1]).abs().max() > 0.05


@every_variant
def test_no_norm_or_bias_is_what_a_fresh_model_has(variant: dict[str, Any]) -> None:
    model = loaded(tiny_checkpoint(**variant))
    checked = 0
    for name, parameter in model.named_parameters():
        if re.search(r"(norm\w*|ln_q)\.weight$", name):
            assert parameter.std() > 0.01, name
            checked += 1
        elif name.endswith(".bias"):
            assert parameter.abs().max() > 0.01, name
            checked += 1
    assert checked > 20


@every_variant
def test_two_tokens_end_an_answer_and_sampling_is_on(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    settings, tokenizer = in_json(folder, "generation_config.json"), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(settings["eos_token_id"]) == ["<|im_end|>", "<|endoftext|>"]
    assert settings["do_sample"] is True
    assert settings["temperature"] != 1.0


@every_variant
def test_the_limits_of_a_picture_are_read_however_they_are_spelled(variant: dict[str, Any]) -> None:
    processor = AutoImageProcessor.from_pretrained(tiny_checkpoint(**variant), backend="pil")
    recipe = Recipe(**variant)
    unit = recipe.shape.patch_px * recipe.merge
    assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (4 * unit * unit, 64 * unit * unit)
    assert (processor.patch_size, processor.merge_size) == (recipe.shape.patch_px, recipe.merge)
    assert (list(processor.image_mean) == [0.5] * 3) is (recipe.family == "qwen3_vl")


def test_only_the_older_templates_write_a_system_turn() -> None:
    picture = "<|vision_start|><|image_pad|><|vision_end|>what is this?"
    user = f"<|im_start|>user\n{picture}<|im_end|>\n<|im_start|>assistant\n"
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    for family, expected in (("qwen2_vl", system + user), ("qwen2_5_vl", system + user), ("qwen3_vl", user)):
        tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint(family=family))
        text = tokenizer.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True)
        assert text == expected
        told = [{"role": "system", "content": "be short"}, *TURN]
        text = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
        assert text == "<|im_start|>system\nbe short<|im_end|>\n" + user


@pytest.mark.parametrize(
    ("size", "decoder", "tower"),
    [
        # Qwen2-1.5B, Qwen2.5-3B, Qwen3-1.7B and Qwen3-4B, all with the head in the table of embeddings.
        ("qwen2-vl-2b", 1_543_714_304, 665_271_296),
        ("qwen2.5-vl-3b", 3_085_938_688, 668_684_288),
        ("qwen3-vl-2b", 1_720_574_976, 406_957_056),
        ("qwen3-vl-4b", 4_022_468_096, 415_347_712),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size: str, decoder: int, tower: int) -> None:
    _, recipe = read(["made", "--size", size])
    ids = dict.fromkeys(("bos", "eos", "pad", "image", "video", "vision_start", "vision_end"), 0)
    planned = plan(FAMILIES[recipe.family].config(recipe, 500, ids), "new")
    assert sum(tensor.size for tensor in planned if "language_model" in tensor.name) == decoder
    assert sum(tensor.size for tensor in planned if "visual" in tensor.name) == tower


@pytest.mark.parametrize(("size", "limits"), [("qwen2.5-vl-3b", (3136, 12845056)), ("qwen3-vl-2b", (65536, 16777216))])
def test_published_sizes_have_the_published_limits_of_a_picture(size: str, limits: tuple[int, int]) -> None:
    _, recipe = read(["made", "--size", size])
    settings = FAMILIES[recipe.family].image(recipe)["size"]
    assert (settings["shortest_edge"], settings["longest_edge"]) == limits


def test_weights_do_not_depend_on_the_form_of_the_files() -> None:
    one = loaded(tiny_checkpoint(family="qwen2_vl", config="hub", names="old", shards=2)).state_dict()
    other = loaded(tiny_checkpoint(family="qwen2_vl", config="both", names="new")).state_dict()
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
