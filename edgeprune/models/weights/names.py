"""Weight names: from the spellings in circulation to edgeprune's own.

A family's `renames` bring its tensors to three prefixes: "vision_tower.", "language_model." and "multi_modal_projector.". Behind those,
three forms exist: module names ("model.vision_tower...", "lm_head.weight"), what save_pretrained writes ("vision_tower...",
"language_model.model...", "language_model.lm_head.weight"), and older hub files, which add "vision_tower.vision_model...". What the parts
of a tower's block are called is the tower kind's to say.

Our names
  tower.class_token, .distillation_token, .position, .patch.weight/bias, .pre_norm.weight/bias, .norm.weight/bias
  tower.{i}.norm1|q|k|v|o|norm2|fc1|fc2.weight/bias, tower.{i}.scale1, .scale2; tower.{i}.qkv where a file has the three stacked
  tower.{i}.fc_in|fc_out.weight/bias in place of fc1 and fc2 where the MLP is gated; fc_in: gate rows, then up rows
  connector.norm|1|2.weight/bias, deepstack.{i}.norm|1|2.weight/bias, newline
  classifier.weight/bias (plain classifiers only; see classifiers/names.py)
  embed.weight, layers.{i}.norm1|q|q_norm|k|k_norm|v|o|norm2|gate|up|down.weight/bias, norm.weight, head.weight
"""

from __future__ import annotations

import functools
import re

from edgeprune.models.families import FAMILIES
from edgeprune.models.towers import TOWERS

_WRAPPERS = (
    (re.compile(r"^model\.(?=(vision_tower|language_model|multi_modal_projector)\.|image_newline$)"), ""),
    (re.compile(r"^vision_tower\.vision_model\."), "vision_tower."),
    (re.compile(r"^language_model\.model\."), "language_model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
)
_CONNECTOR_PARTS = {"layer_norm": "norm", "linear_1": "1", "linear_2": "2"}
_WHOLE = {
    "image_newline": "newline",
    "lm_head.weight": "head.weight",
    "language_model.embed_tokens.weight": "embed.weight",
    "language_model.norm.weight": "norm.weight",
    "vision_tower.embeddings.class_embedding": "tower.class_token",
    "vision_tower.embeddings.cls_token": "tower.class_token",
    "vision_tower.embeddings.distillation_token": "tower.distillation_token",
    "vision_tower.embeddings.position_embedding.weight": "tower.position",
    "vision_tower.embeddings.position_embeddings": "tower.position",
    "vision_tower.embeddings.patch_embedding.weight": "tower.patch.weight",
    "vision_tower.embeddings.patch_embedding.bias": "tower.patch.bias",
    "vision_tower.embeddings.patch_embeddings.projection.weight": "tower.patch.weight",
    "vision_tower.embeddings.patch_embeddings.projection.bias": "tower.patch.bias",
    "vision_tower.pre_layrnorm.weight": "tower.pre_norm.weight",  # spelt so in CLIP
    "vision_tower.pre_layrnorm.bias": "tower.pre_norm.bias",
    **{
        f"multi_modal_projector.{theirs}.{part}": f"connector.{ours}.{part}"
        for theirs, ours in _CONNECTOR_PARTS.items()
        for part in ("weight", "bias")
    },
    "vision_tower.patch_embed.proj.weight": "tower.patch.weight",
    "vision_tower.patch_embed.proj.bias": "tower.patch.bias",
    "vision_tower.pos_embed.weight": "tower.position",
    "vision_tower.post_layernorm.weight": "tower.norm.weight",
    "vision_tower.post_layernorm.bias": "tower.norm.bias",
}
_LAYER = re.compile(r"^language_model\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_LAYER_PARTS = {
    "input_layernorm": "norm1",
    "post_attention_layernorm": "norm2",
    **{f"self_attn.{part}_proj": part for part in "qkvo"},
    **{f"self_attn.{part}_norm": f"{part}_norm" for part in "qk"},
    **{f"mlp.{part}_proj": part for part in ("gate", "up", "down")},
}
_BLOCK = re.compile(r"^vision_tower\.(?:(?:encoder\.)?layers?|blocks)\.(\d+)\.(.+)$")
_DEEPSTACK = re.compile(r"^deepstack\.(\d+)\.(layer_norm|linear_1|linear_2)\.(weight|bias)$")
#: Parts that never reach the answer: buffers that transformers recomputes, and what follows the feature layer.
_UNUSED = re.compile(
    r"(\.rotary_emb\.inv_freq|\.position_ids)$|^vision_tower\.(layernorm|pooler|head)\.|^vision_tower\.embeddings\.mask_token$"
)


def canonical_name(source: str) -> str | None:
    """Our name of a tensor of a checkpoint; "" if it is never needed; None if it is not known."""
    name = source
    for pattern, replacement in (*_renames(FAMILIES.names()), *_WRAPPERS):
        name = pattern.sub(replacement, name)
    if _UNUSED.search(name):
        return ""
    if name in _WHOLE:
        return _WHOLE[name]
    if found := _LAYER.match(name):
        index, part, kind = found.groups()
        return f"layers.{int(index)}.{_LAYER_PARTS[part]}.{kind}" if part in _LAYER_PARTS else None
    if found := _BLOCK.match(name):
        return _block_name(int(found[1]), found[2])
    if found := _DEEPSTACK.match(name):
        return f"deepstack.{int(found[1])}.{_CONNECTOR_PARTS[found[2]]}.{found[3]}"
    return None


@functools.cache
def _renames(families: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Those of all families: each begins with a prefix that no other family uses, which a test holds."""
    pairs = dict.fromkeys(pair for name in families for pair in FAMILIES.get(name).renames)
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


@functools.cache
def _block_parts(towers: tuple[str, ...]) -> dict[str, str]:
    """What a part of a block is called by any kind of tower."""
    return {theirs: ours for name in towers for theirs, ours in TOWERS.get(name).names.items()}


def _block_name(index: int, rest: str) -> str | None:
    if rest.endswith(".lambda1") or rest in ("lambda_1", "lambda_2"):  # a scale is a bare vector
        part = _block_parts(TOWERS.names()).get(rest.removesuffix(".lambda1"))
        return f"tower.{index}.{part}" if part else None
    part_name, _, kind = rest.rpartition(".")
    part = _block_parts(TOWERS.names()).get(part_name)
    return f"tower.{index}.{part}.{kind}" if part and kind in ("weight", "bias") else None


def is_later_block(name: str, block: int) -> bool:
    """True for tensors of tower blocks after this one."""
    found = re.match(r"^tower\.(\d+)\.", name)
    return found is not None and int(found[1]) > block
