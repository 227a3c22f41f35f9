"""Weight names: from the spellings in circulation to edgeprune's own.

Three forms exist for the whole model: module names ("model.vision_tower...", "lm_head.weight"), what save_pretrained
writes ("vision_tower...", "language_model.model...", "language_model.lm_head.weight"), and older hub files, which add
"vision_tower.vision_model...".
Inside ViT, DINOv2 and DeiT towers there are two more (nested "attention.attention.query", flat "attention.q_proj").

Our names
  tower.class_token, .distillation_token, .position, .patch.weight/bias, .pre_norm.weight/bias
  tower.{i}.norm1|q|k|v|o|norm2|fc1|fc2.weight/bias, tower.{i}.scale1, .scale2
  tower.{i}.fc_in|fc_out.weight/bias in place of fc1 and fc2 where the MLP is gated; fc_in: gate rows, then up rows
  projector.1|2.weight/bias, newline
  tower.norm.weight/bias, classifier.weight/bias (plain classifiers only; see classifier_names.py)
  embed.weight, layers.{i}.norm1|q|k|v|o|norm2|gate|up|down.weight/bias, norm.weight, head.weight
"""

from __future__ import annotations

import re

_WRAPPERS = (
    (re.compile(r"^model\.(?=(vision_tower|language_model|multi_modal_projector)\.|image_newline$)"), ""),
    (re.compile(r"^vision_tower\.vision_model\."), "vision_tower."),
    (re.compile(r"^language_model\.model\."), "language_model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
)
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
        f"multi_modal_projector.linear_{i}.{part}": f"projector.{i}.{part}"
        for i in (1, 2)
        for part in ("weight", "bias")
    },
}
_LAYER = re.compile(r"^language_model\.layers\.(\d+)\.(.+)\.(weight|bias)$")
_LAYER_PARTS = {
    "input_layernorm": "norm1",
    "post_attention_layernorm": "norm2",
    **{f"self_attn.{part}_proj": part for part in "qkvo"},
    **{f"mlp.{part}_proj": part for part in ("gate", "up", "down")},
}
_BLOCK = re.compile(r"^vision_tower\.(?:encoder\.)?layers?\.(\d+)\.(.+)$")
_BLOCK_PARTS = {
    **dict.fromkeys(("layer_norm1", "layernorm_before", "norm1"), "norm1"),
    **dict.fromkeys(("layer_norm2", "layernorm_after", "norm2"), "norm2"),
    **dict.fromkeys(("self_attn.q_proj", "attention.q_proj", "attention.attention.query"), "q"),
    **dict.fromkeys(("self_attn.k_proj", "attention.k_proj", "attention.attention.key"), "k"),
    **dict.fromkeys(("self_attn.v_proj", "attention.v_proj", "attention.attention.value"), "v"),
    **dict.fromkeys(("self_attn.out_proj", "attention.o_proj", "attention.output.dense"), "o"),
    **dict.fromkeys(("mlp.fc1", "intermediate.dense"), "fc1"),
    **dict.fromkeys(("mlp.fc2", "output.dense"), "fc2"),
    "mlp.weights_in": "fc_in",
    "mlp.gate_proj": "fc_gate",
    "mlp.up_proj": "fc_up",
    **dict.fromkeys(("mlp.weights_out", "mlp.down_proj"), "fc_out"),
}
_SCALES = {"layer_scale1.lambda1": "scale1", "layer_scale2.lambda1": "scale2"}
#: Parts that never reach the answer: buffers that transformers recomputes, and what follows the feature layer.
_UNUSED = re.compile(
    r"(\.rotary_emb\.inv_freq|\.position_ids)$|^vision_tower\.(post_layernorm|layernorm|pooler|head)\.|^vision_tower\.embeddings\.mask_token$"
)


def canonical_name(source: str) -> str | None:
    """Our name of a tensor of a checkpoint; "" if it is never needed; None if it is not known."""
    name = source
    for pattern, replacement in _WRAPPERS:
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
    return None


def _block_name(index: int, rest: str) -> str | None:
    if rest in _SCALES:
        return f"tower.{index}.{_SCALES[rest]}"
    part, _, kind = rest.rpartition(".")
    return f"tower.{index}.{_BLOCK_PARTS[part]}.{kind}" if part in _BLOCK_PARTS and kind in ("weight", "bias") else None


def is_later_block(name: str, block: int) -> bool:
    """True for tensors of tower blocks after this one."""
    found = re.match(r"^tower\.(\d+)\.", name)
    return found is not None and int(found[1]) > block
