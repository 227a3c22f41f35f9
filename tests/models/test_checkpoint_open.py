"""An opened checkpoint describes the model that transformers builds, and its weights are that model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from edgeprune.models import Checkpoint, open_checkpoint
from edgeprune.models.config.section import Section
from edgeprune.models.towers import tower_from_config
from edgeprune.models.weights.names import canonical_name
from edgeprune_runtime.pictures.tiling import Anyres, Single
from tests.checkpoints import FAMILY_VARIANTS, VARIANTS, edit_json, own_copy, tiny_checkpoint, variant_name

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)


def model_of(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


def expected_weights(model: Any, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """transformers' own tensors under our names; the halves of gated MLPs joined, and no norm that the connector does not read through."""
    named = {canonical_name(name): value.numpy() for name, value in model.state_dict().items()}
    for i in range(checkpoint.spec.vision.layers if checkpoint.spec.vision.swiglu else 0):
        for part in ("weight", "bias"):
            halves = [named.pop(f"tower.{i}.{half}.{part}") for half in ("fc_gate", "fc_up")]
            named[f"tower.{i}.fc_in.{part}"] = np.concatenate(halves)
    unused = {"", "head.weight" if checkpoint.spec.language.tied else ""}
    if not checkpoint.spec.vision.final_norm:
        unused |= {"tower.norm.weight", "tower.norm.bias"}
    return {name: value for name, value in named.items() if name not in unused}


@pytest.mark.parametrize("variant", [*VARIANTS, *FAMILY_VARIANTS], ids=variant_name)
def test_weights_equal_those_that_transformers_loads(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    checkpoint = open_checkpoint(folder)
    expected = expected_weights(model_of(folder), checkpoint)
    assert set(checkpoint.weights.names()) == set(expected)
    for name, value in expected.items():
        read = checkpoint.weights.read(name)
        assert read.dtype == np.float32
        assert read.shape == checkpoint.weights.shape(name)
        np.testing.assert_array_equal(read, value.reshape(read.shape), err_msg=name)


@each_variant
def test_spec_describes_the_model_that_transformers_builds(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    spec = open_checkpoint(folder).spec
    model = model_of(folder)
    vision, text = model.config.vision_config, model.config.text_config
    assert (spec.family, spec.image_token_id) == (model.config.model_type, model.config.image_token_id)
    assert (spec.vision.layers, spec.vision.eps) == (vision.num_hidden_layers, vision.layer_norm_eps)
    assert (spec.language.layers, spec.language.eps) == (text.num_hidden_layers, text.rms_norm_eps)
    attention = model.model.language_model.layers[0].self_attn
    assert spec.language.head_dim == attention.head_dim
    assert spec.language.heads // spec.language.kv_heads == attention.num_key_value_groups
    assert spec.language.attention_bias == (attention.q_proj.bias is not None)
    assert spec.language.output_bias == (attention.o_proj.bias is not None)
    assert spec.language.tied == (model.lm_head.weight is model.model.language_model.embed_tokens.weight)
    assert spec.eos_token_ids == (model.generation_config.eos_token_id,)


@each_variant
def test_feature_layer_is_the_block_whose_output_transformers_selects(variant: dict[str, Any]) -> None:
    folder = tiny_checkpoint(**variant)
    spec = open_checkpoint(folder).spec
    model = model_of(folder)
    tower = model.model.vision_tower
    blocks = tower.layers if hasattr(tower, "layers") else getattr(tower.encoder, "layers", None) or tower.encoder.layer
    seen: list[torch.Tensor] = []
    for block in blocks:
        block.register_forward_hook(
            lambda module, inputs, output: seen.append(output if isinstance(output, torch.Tensor) else output[0])
        )
    pixels = torch.randn(1, 3, spec.vision.image_px, spec.vision.image_px)
    with torch.no_grad():
        states = tower(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[model.config.vision_feature_layer], seen[spec.feature_layer])
    torch.testing.assert_close(states[-1], seen[-1], msg="the last state is taken before the final norm")
    assert states[-2].shape == (1, spec.vision.positions, spec.vision.hidden)


@pytest.mark.parametrize("tower", ["clip", "vit", "dinov2", "siglip"])
def test_the_three_name_forms_hold_the_same_model(tower: str) -> None:
    opened = [open_checkpoint(tiny_checkpoint(tower=tower, names=names)) for names in ("new", "old", "hub")]
    files = [{part[0].name for part in checkpoint.weights.parts.values()} for checkpoint in opened]
    assert files[0].isdisjoint(files[1])
    assert (files[1] == files[2]) is (tower not in ("clip", "siglip"))
    for name in opened[0].weights.names():
        first, *others = [checkpoint.weights.read(name) for checkpoint in opened]
        assert all(np.array_equal(first, other) for other in others), name


@pytest.mark.parametrize(("layer", "block"), [(-1, 2), (-2, 1), (-3, 0), (1, 0), (3, 2)])
def test_feature_layer_counts_as_in_the_configuration(layer: int, block: int, tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(), tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(vision_feature_layer=layer))
    checkpoint = open_checkpoint(folder)
    assert checkpoint.spec.feature_layer == block
    assert f"tower.{block}.fc2.weight" in checkpoint.weights.names()


def test_deit_keeps_its_distillation_token_as_a_visual_token() -> None:
    spec = open_checkpoint(tiny_checkpoint(family="llava", tower="deit")).spec
    assert (spec.vision.prefix_tokens, spec.vision.class_tokens, spec.picture.tile.extra) == (2, 1, 1)
    assert spec.picture.tile.units == spec.vision.tokens == spec.vision.patches**2 + 1
    assert open_checkpoint(tiny_checkpoint()).spec.picture.tile.extra == 0


def test_siglip_has_patches_only_and_its_pooling_is_never_needed() -> None:
    folder = tiny_checkpoint(family="llava", tower="siglip", names="hub", processor="old")
    checkpoint = open_checkpoint(folder)
    spec, tower = checkpoint.spec, checkpoint.spec.vision
    assert (tower.image_px, tower.patch_px, tower.patches) == (52, 8, 6)
    assert (tower.prefix_tokens, tower.class_tokens, tower.tokens, tower.positions) == (0, 0, 36, 36)
    assert (tower.activation, tower.pre_norm, tower.patch_bias, tower.qkv_bias) == ("gelu_tanh", False, True, True)
    tile = spec.picture.tile
    assert (tile.extra, tile.units, spec.feature_layer) == (0, 36, tower.layers - 1)
    assert spec.picture.tiling == Single(resize_exact=(52, 52))
    assert (tile.px, tile.patches, tile.patch_px, tile.merge) == (52, 6, 8, 1)
    assert (tile.mean, tile.std, tile.resample) == ((0.5,) * 3, (0.5,) * 3, 3)
    stored = load_file(folder / "model.safetensors")
    assert {name for name in stored if ".head." in name} and {name for name in stored if "post_layernorm" in name}
    used = {part.name for parts in checkpoint.weights.parts.values() for part in parts}
    assert not any(".head." in name or "post_layernorm" in name for name in used)


def test_the_tower_of_llava_interleave_has_729_tokens() -> None:
    values = {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14, "hidden_size": 1152}
    values |= {"intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 26, "vision_use_head": False}
    tower = tower_from_config(Section("config.json.vision_config", values))
    assert (tower.patches, tower.tokens, tower.positions, tower.head_dim) == (27, 729, 729, 72)


def test_hub_configurations_of_siglip_may_leave_out_class_defaults(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(family="llava", tower="siglip"), tmp_path)
    whole = open_checkpoint(folder).spec.vision

    def forget(config: dict[str, Any]) -> None:
        for key in ("hidden_act", "layer_norm_eps", "num_channels", "attention_dropout", "vision_use_head"):
            del config["vision_config"][key]

    edit_json(folder / "config.json", forget)
    assert open_checkpoint(folder).spec.vision == whole


def test_newer_and_older_processor_files_say_the_same() -> None:
    for family in ("llava_next", "llava"):
        new, old = (open_checkpoint(tiny_checkpoint(family=family, processor=kind)) for kind in ("new", "old"))
        assert new.spec.picture == old.spec.picture
        assert new.chat_template == old.chat_template
        assert new.chat_template is not None


def test_pinpoints_keep_the_order_of_the_configuration() -> None:
    grids = ((2, 3), (1, 2), (3, 2), (1, 3))
    picture = open_checkpoint(tiny_checkpoint(pinpoints=grids)).spec.picture
    assert picture.tiling == Anyres(tuple((48 * rows, 48 * columns) for rows, columns in grids))
    assert picture.tiles_max == 7


def test_two_equal_tables_are_tied_and_two_different_ones_are_not(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(tied=True), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    table = tensors["language_model.model.embed_tokens.weight"]
    save_file({**tensors, "language_model.lm_head.weight": table.clone()}, folder / "model.safetensors")
    assert open_checkpoint(folder).spec.language.tied
    save_file({**tensors, "language_model.lm_head.weight": table + 1}, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert not checkpoint.spec.language.tied
    np.testing.assert_array_equal(checkpoint.weights.read("head.weight"), (table + 1).numpy())


def test_a_tied_table_may_be_stored_as_the_head_only(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(tied=True), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    table = tensors.pop("language_model.model.embed_tokens.weight")
    save_file({**tensors, "language_model.lm_head.weight": table}, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.spec.language.tied
    np.testing.assert_array_equal(checkpoint.weights.read("embed.weight"), table.numpy())


def test_buffers_of_older_versions_are_ignored(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(names="hub"), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(37)[None]
    tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, folder / "model.safetensors")
    assert open_checkpoint(folder).weights.names() == open_checkpoint(tiny_checkpoint(names="hub")).weights.names()


def test_stop_tokens_come_from_the_generation_configuration_first(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(), tmp_path)
    edit_json(folder / "generation_config.json", lambda values: values.update(eos_token_id=[7, 3, 7]))
    assert open_checkpoint(folder).spec.eos_token_ids == (7, 3)
    (folder / "generation_config.json").unlink()
    assert open_checkpoint(folder).spec.eos_token_ids == (3,)


def test_a_chat_template_is_found_wherever_it_is_kept(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(), tmp_path)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    assert open_checkpoint(folder).chat_template is None
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]
    edit_json(folder / "tokenizer_config.json", lambda values: values.update(chat_template=named))
    assert open_checkpoint(folder).chat_template == template


def test_hub_configurations_may_leave_out_class_defaults(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(decoder="mistral", multi_head=True), tmp_path)

    def forget(config: dict[str, Any]) -> None:
        text = config["text_config"]
        for key in ("hidden_act", "sliding_window", "tie_word_embeddings"):
            del text[key]
        text["num_key_value_heads"] = None

    edit_json(folder / "config.json", forget)
    language = open_checkpoint(folder).spec.language
    assert (language.kv_heads, language.sliding_window) == (language.heads, 4096)
    edit_json(folder / "config.json", lambda config: config["text_config"].update(sliding_window=None))
    assert open_checkpoint(folder).spec.language.sliding_window is None


def test_sliding_windows_are_kept_in_the_description() -> None:
    for decoder in ("mistral", "qwen2"):
        assert open_checkpoint(tiny_checkpoint(decoder=decoder, sliding_window=32)).spec.language.sliding_window == 32


def test_opening_needs_neither_torch_nor_transformers() -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'safetensors', 'onnx', 'huggingface_hub'): sys.modules[name] = None\n"
        "from edgeprune.models import open_checkpoint\n"
        f"open_checkpoint({str(tiny_checkpoint())!r}).weights.read('embed.weight')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
