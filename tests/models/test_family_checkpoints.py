"""Every family's checkpoints open as what transformers builds of them, and what would be answered differently is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForImageTextToText

from edgeprune.models import open_checkpoint
from edgeprune.models.families import FAMILIES
from edgeprune.models.spec import ModelSpec
from edgeprune_runtime.pictures.spec import SequenceSpec
from edgeprune_runtime.pictures.tiling import Anyres, NearestRatio, Split
from tests.checkpoints import (
    FAMILY_VARIANTS,
    QWEN_VARIANTS,
    VARIANTS,
    edit_json,
    own_copy,
    tiny_checkpoint,
    variant_name,
)
from tests.damage import Case, Damage, config, expect_refusal, image, text, vision
from tools.checkpoints.recipe import Recipe

every_variant = pytest.mark.parametrize("variant", FAMILY_VARIANTS, ids=variant_name)
SPLITS = ("smolvlm", "idefics3")


def both(variant: dict[str, Any]) -> tuple[ModelSpec, Any]:
    folder = tiny_checkpoint(**variant)
    return open_checkpoint(folder).spec, AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


def module(model: Any, *paths: str) -> Any:
    """The first of these submodules that the model has."""
    return next(model.get_submodule(path) for path in paths if path in dict(model.named_modules()))


@every_variant
def test_the_tower_is_the_one_that_transformers_builds(variant: dict[str, Any]) -> None:
    spec, model = both(variant)
    theirs, tower = model.config.vision_config, module(model, "model.vision_tower", "model.vision_model")
    ours = spec.vision
    square = theirs.image_size if isinstance(theirs.image_size, int) else theirs.image_size[0]
    assert (ours.layers, ours.hidden, ours.heads) == (
        theirs.num_hidden_layers,
        theirs.hidden_size,
        theirs.num_attention_heads,
    )
    assert (ours.image_px, ours.mlp, ours.eps) == (square, theirs.intermediate_size, theirs.layer_norm_eps)
    norms = [type(part) for name, part in tower.named_modules() if re.search(r"layers?\.\d+\.\w*norm\w*$", name)]
    assert len(norms) == 2 * ours.layers
    assert {kind is nn.LayerNorm for kind in norms} == {ours.norm == "layer"}
    biases = {name.endswith("q_proj.bias") for name, _ in tower.named_parameters()}
    assert ours.qkv_bias is (True in biases)
    assert ours.layer_scale is any("lambda_1" in name for name, _ in tower.named_parameters())
    assert (ours.class_tokens, ours.prefix_tokens) == ((1, 1) if variant["family"] == "internvl" else (0, 0))


@every_variant
def test_a_norm_behind_the_last_block_belongs_to_those_whose_connector_reads_through_it(
    variant: dict[str, Any],
) -> None:
    spec, _ = both(variant)
    assert spec.feature_layer == spec.vision.layers - 1
    assert spec.vision.final_norm is (variant["family"] in SPLITS)
    assert (
        "tower.norm.weight" in open_checkpoint(tiny_checkpoint(**variant)).weights.names()
    ) is spec.vision.final_norm


@every_variant
def test_the_connector_merges_and_normalises_as_transformers_does(variant: dict[str, Any]) -> None:
    spec, model = both(variant)
    ours, family = spec.connector, variant["family"]
    linears = [
        part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and ("projector" in name or "connector" in name)
    ]
    assert ours.merge == (1 if family == "llava_onevision" else Recipe(**variant).merge)
    assert [part.in_features for part in linears] == [ours.merged, ours.outputs][: ours.layers]
    assert {part.bias is not None for part in linears} == {ours.bias}
    if family == "internvl":
        norm = model.model.multi_modal_projector.layer_norm
        assert (ours.norm, norm.normalized_shape, norm.eps) == ("after", (ours.merged,), ours.eps)
    else:
        assert ours.norm is None
    tile = spec.picture.tile
    assert (tile.merge, tile.side, tile.extra) == (ours.merge, spec.vision.patches // ours.merge, 0)


@every_variant
def test_the_language_model_is_the_one_that_transformers_builds(variant: dict[str, Any]) -> None:
    spec, model = both(variant)
    ours, attention = spec.language, module(model, "model.language_model", "model.text_model").layers[0].self_attn
    assert ours.tied is (model.lm_head.weight is model.get_input_embeddings().weight) is bool(variant.get("tied"))
    assert ours.qk_norm is hasattr(attention, "q_norm") is (variant.get("decoder") == "qwen3")
    assert ours.attention_bias is (attention.q_proj.bias is not None)
    assert ours.head_dim == attention.head_dim
    assert ours.heads // ours.kv_heads == attention.num_key_value_groups
    assert (ours.vocab, ours.eps) == (model.lm_head.out_features, model.config.text_config.rms_norm_eps)
    assert spec.image_token_id == model.config.image_token_id


@every_variant
def test_pictures_become_tiles_by_the_rule_of_the_family(variant: dict[str, Any]) -> None:
    picture, recipe = open_checkpoint(tiny_checkpoint(**variant)).spec.picture, Recipe(**variant)
    grids = tuple((height, width) for height, width in recipe.grids_px)
    expected = {
        "internvl": NearestRatio(recipe.min_patches, recipe.max_patches),
        "smolvlm": Split(recipe.longest_px or 4 * recipe.tile_px),
        "idefics3": Split(recipe.longest_px or 4 * recipe.tile_px),
        "llava_onevision": Anyres(grids),
    }
    assert picture.tiling == expected[recipe.family]
    assert picture.tile.px == recipe.tile_px
    assert picture.tile.resample == (1 if recipe.family in SPLITS else 3)


@every_variant
def test_tiles_stand_in_the_prompt_as_the_family_has_them(variant: dict[str, Any]) -> None:
    spec = open_checkpoint(tiny_checkpoint(**variant)).spec
    fake = "<fake_token_around_image>"
    split = SequenceSpec(
        overview="last",
        tile=fake + "<row_{row}_col_{col}>",
        row="\n",
        whole=f"\n{fake}<global-img>",
        alone=f"{fake}<global-img>",
        after=fake,
        text_tokens=spec.picture.sequence.text_tokens,
    )
    expected = {
        "internvl": SequenceSpec(overview="last", before="<img>", after="</img>", text_tokens=2),
        "smolvlm": split,
        "idefics3": split,
        "llava_onevision": SequenceSpec(order="mosaic", unpad=True, row_end="newline"),
    }
    assert spec.picture.sequence == expected[variant["family"]]
    assert spec.learned == ("newline" if variant["family"] == "llava_onevision" else None)
    assert (spec.learned in open_checkpoint(tiny_checkpoint(**variant)).weights.names()) is (spec.learned is not None)


def test_texts_between_tiles_are_counted_in_token_ids() -> None:
    """4 x 4 tiles: two ids before each tile, a line end behind three rows, a joined one behind the last, two before the whole, one after."""
    spec = open_checkpoint(tiny_checkpoint(family="smolvlm", merge=2, processor="old", tied=True, eps=1e-2)).spec
    assert spec.picture.sequence.text_tokens == 2 * 16 + 3 + 1 + 2 + 1


def test_newer_and_older_processor_files_say_the_same() -> None:
    for family in ("internvl", "smolvlm", "idefics3", "llava_onevision"):
        new, old = (open_checkpoint(tiny_checkpoint(family=family, processor=kind)) for kind in ("new", "old"))
        assert new.spec.picture == old.spec.picture
        assert new.chat_template == old.chat_template is not None


@pytest.mark.parametrize("family", ["internvl", "smolvlm", "idefics3", "llava_onevision"])
def test_the_three_name_forms_hold_the_same_model(family: str) -> None:
    opened = [open_checkpoint(tiny_checkpoint(family=family, names=names)) for names in ("new", "old", "hub")]
    for name in opened[0].weights.names():
        first, *others = [checkpoint.weights.read(name) for checkpoint in opened]
        assert all((first == other).all() for other in others), name
    assert {checkpoint.weights.names() for checkpoint in opened} == {opened[0].weights.names()}


def test_canvases_that_transformers_would_shrink_are_left_out(tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(**FAMILY_VARIANTS[-2]), tmp_path)
    whole = open_checkpoint(folder).spec.picture.tiling
    config(vision_aspect_ratio="anyres_max_4")(folder)
    few = open_checkpoint(folder).spec.picture
    assert isinstance(whole, Anyres) and isinstance(few.tiling, Anyres)
    assert few.tiling.pinpoints == tuple((h, w) for h, w in whole.pinpoints if (h // 52) * (w // 52) <= 4)
    assert few.tiles_max == 5 and len(few.tiling.pinpoints) == 6


@pytest.mark.parametrize("family", SPLITS)
def test_a_processor_that_does_not_split_shows_one_view(family: str, tmp_path: Path) -> None:
    folder = own_copy(tiny_checkpoint(family=family), tmp_path)
    image(do_image_splitting=False)(folder)
    picture = open_checkpoint(folder).spec.picture
    assert picture.tiling == Split(4 * picture.tile.px, 0) and picture.tiles_max == 1


# ---------------------------------------------------------------------------------------------------------- refusals


def original_internvl(model_type: str) -> Damage:
    """What an original repository's config.json looks like."""

    def damage(folder: Path) -> None:
        def change(values: dict[str, Any]) -> None:
            values["llm_config"] = values.pop("text_config")
            values |= {"model_type": model_type, "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"}}

        edit_json(folder / "config.json", change)

    return damage


REFUSALS: dict[str, tuple[str, Case]] = {
    "internvl: original repository": ("internvl", (original_internvl("internvl_chat"), "whose name ends in -hf")),
    "internvl: original keys": ("internvl", (original_internvl("internvl"), "whose name ends in -hf")),
    "internvl: code of its own": ("internvl", (config(auto_map={"AutoModel": "x.Y"}), "whose name ends in -hf")),
    "internvl: another tower": (
        "internvl",
        (vision(model_type="siglip_vision_model"), "expected 'internvl_vision'"),
    ),
    "internvl: norms on queries and keys": (
        "internvl",
        (vision(use_qk_norm=True), "use_qk_norm is True; expected false"),
    ),
    "internvl: a norm behind the tower": (
        "internvl",
        (vision(use_mean_pooling=False), "use_mean_pooling is False; expected true"),
    ),
    "internvl: no positions": (
        "internvl",
        (vision(use_absolute_position_embeddings=False), "use_absolute_position_embeddings is False"),
    ),
    "internvl: unknown norm": ("internvl", (vision(norm_type="batch_norm"), "norm_type is 'batch_norm'")),
    "internvl: merge of no whole patches": (
        "internvl",
        (config(downsample_ratio=0.4), "downsample_ratio is 0.4; expected 1 / n"),
    ),
    "internvl: merge that does not divide": (
        "internvl",
        (config(downsample_ratio=0.25), "expected 1 / n, n a divisor of the 6 patches"),
    ),
    "internvl: the class token handed on": (
        "internvl",
        (config(vision_feature_select_strategy="full"), "vision_feature_select_strategy is 'full'"),
    ),
    "internvl: tiles of another size": (
        "internvl",
        (image(size={"height": 96, "width": 96}), "size is {'height': 96, 'width': 96}; expected 48"),
    ),
    "internvl: more tiles at least than at most": (
        "internvl",
        (image(min_patches=5), "min_patches is 5; expected at most max_patches = 4"),
    ),
    "internvl: experts": ("internvl", (text(model_type="qwen3_moe"), "model_type is 'qwen3_moe'; supported decoders")),
    **{
        f"{family}: {about}": (family, case)
        for family in SPLITS
        for about, case in {
            "scale that does not divide": (
                config(scale_factor=4),
                "scale_factor is 4; expected a divisor of the 6 patches along a side of a tile",
            ),
            "tile of another size": (
                image(max_image_size={"longest_edge": 96}),
                "max_image_size is {'longest_edge': 96}; expected a longest_edge of 48",
            ),
            "edge without meaning": (image(size={"shortest_edge": 48}), "size.longest_edge is missing"),
            "another tower": (
                vision(model_type="clip_vision_model"),
                "model_type is 'clip_vision_model'; expected one of",
            ),
        }.items()
    },
    **{
        f"llava_onevision: ratio {ratio!r}": (
            "llava_onevision",
            (config(vision_aspect_ratio=ratio), f"vision_aspect_ratio is {ratio!r}; expected anyres_max_N"),
        )
        for ratio in ("anyres", "pad", "anyres_max_", "anyres_max_9x")
    },
    "llava_onevision: no canvas is small enough": (
        "llava_onevision",
        (config(vision_aspect_ratio="anyres_max_1"), "at least the tiles of the smallest canvas"),
    ),
    "llava_onevision: canvases differ": (
        "llava_onevision",
        (image(image_grid_pinpoints=[[52, 52]]), "image_grid_pinpoints differ"),
    ),
    "llava_onevision: the first patch dropped": (
        "llava_onevision",
        (config(vision_feature_select_strategy="default"), "strategy is 'default'; expected 'full'"),
    ),
    "qwen2_5_vl: experts": (
        "qwen2_5_vl",
        (config(model_type="qwen2_5_vl_moe"), "choose among experts; expected a dense model"),
    ),
    "qwen2_vl: a sliding window": (
        "qwen2_vl",
        (text(use_sliding_window=True), "use_sliding_window is True; expected false"),
    ),
    "qwen2_vl: another rope": (
        "qwen2_vl",
        (text(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0}), "is of type 'dynamic'"),
    ),
    "qwen3_vl: sections of another head": (
        "qwen3_vl",
        (text(rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 1]}), "that add up to 8, half a head"),
    ),
    "qwen3_vl: deepstack out of order": (
        "qwen3_vl",
        (vision(deepstack_visual_indexes=[1, 0]), "expected ascending block numbers"),
    ),
    "qwen3_vl: more deepstack than layers": (
        "qwen3_vl",
        (vision(deepstack_visual_indexes=[0, 1, 2]), "behind 3 decoder layers, and there are 2"),
    ),
    "qwen3_vl: a table that is no square": ("qwen3_vl", (vision(num_position_embeddings=37), "a square number")),
    "qwen2_5_vl: windows smaller than a token": ("qwen2_5_vl", (vision(window_size=8), "one visual token")),
    "qwen2_vl: another width": ("qwen2_vl", (vision(hidden_size=72), "expected 64, the width of the language model")),
    "qwen2_vl: heads that turn no pairs": ("qwen2_vl", (vision(num_heads=8), "multiple of 4 wide")),
    "qwen3_vl: other patches": (
        "qwen3_vl",
        (image(patch_size=14), "patch_size is 14; expected 8, as config.json has it"),
    ),
    "qwen2_vl: pixels as they are": ("qwen2_vl", (image(do_normalize=False), "do_normalize is False; expected true")),
    "llava_onevision: another tower": ("llava_onevision", (vision(model_type="dinov2"), "supported towers are")),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_would_be_answered_differently_is_refused(case: str, tmp_path: Path) -> None:
    family, refused = REFUSALS[case]
    expect_refusal(refused, tmp_path, family=family)


@pytest.mark.parametrize("kind", ["gemma3", "paligemma", "llava_next_video", "LLAVA"])
def test_an_unknown_model_names_those_that_are_known(kind: str, tmp_path: Path) -> None:
    known = ", ".join(f"{name} ({FAMILIES.get(name).title})" for name in FAMILIES)
    assert len(FAMILIES) >= 6
    expect_refusal((config(model_type=kind), f"model_type is {kind!r}; supported are {known}; "), tmp_path)


def test_no_family_renames_another_ones_tensors() -> None:
    """All renames apply to all names, whatever the family: only its own may change one."""
    moved = set()
    for variant in (*VARIANTS, *FAMILY_VARIANTS, *QWEN_VARIANTS):
        own = FAMILIES.get(variant.get("family", "llava_next"))
        foreign = {pair for name in FAMILIES for pair in FAMILIES.get(name).renames} - set(own.renames)
        for path in tiny_checkpoint(**variant).glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                names = list(file.keys())
            for name in names:
                renamed = name
                for pattern, replacement in own.renames:
                    renamed = re.sub(pattern, replacement, renamed)
                moved |= {own.name} if renamed != name else set()
                for pattern, _ in foreign:
                    assert re.search(pattern, name) is None and re.search(pattern, renamed) is None, (own.name, name)
    assert moved == {name for name in FAMILIES if FAMILIES.get(name).renames} != set()
