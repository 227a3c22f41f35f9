"""Names, shapes and seeded values of every tensor, one at a time, without ever building the model in memory.

Values are scaled so that activations stay of order one, attention is neither flat nor one-hot and logits have a clear
winner; each tensor has its own seed (of its name), so that no two layers are equal and the order of writing is free.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    Idefics3ForConditionalGeneration,
    InternVLForConditionalGeneration,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    PretrainedConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    SmolVLMForConditionalGeneration,
)

from .recipe import Names

#: The class of each model type.
CLASSES: dict[str, Any] = {
    "llava": LlavaForConditionalGeneration,
    "llava_next": LlavaNextForConditionalGeneration,
    "llava_onevision": LlavaOnevisionForConditionalGeneration,
    "internvl": InternVLForConditionalGeneration,
    "idefics3": Idefics3ForConditionalGeneration,
    "smolvlm": SmolVLMForConditionalGeneration,
    "qwen2_vl": Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}
#: A word that stands loudly in its own row is its own successor where the head is the table of embeddings.
_TIED_SCALES = {"model.language_model.embed_tokens.weight": 0.25, "model.language_model.norm.weight": 4.0}
_OLD = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.", ""),
)
_OLD_QWEN = ((r"^model\.visual\.", "visual."), (r"^model\.language_model\.", "model."))
_NESTED = (
    (r"(vision_tower\.)(?:encoder\.layer|layers)\.", r"\1encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
)
_CLIP_NAMES = ("clip_vision_model", "siglip_vision_model")
_NESTED_TOWERS = ("vit", "deit", "dinov2")  # the others' modules have been called what they are from the start
_QWEN_TOWERS = ("qwen2_vl_vision", "qwen2_5_vl_vision")
_ONE_FORM = (
    "idefics3_vision",
    "smolvlm_vision",
    "qwen3_vl_vision",
)  # towers of models whose files name tensors as the modules do
_NESTED_MLP = ((r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense."))
_SWIGLU = ((r"\.mlp\.gate_proj\.", ".mlp.weights_in."), (r"\.mlp\.down_proj\.", ".mlp.weights_out."))


@dataclass(frozen=True)
class Planned:
    """One tensor of the file, of one of the module's or stacked from two (a gated MLP); `scale`: times its usual values."""

    name: str
    module_names: tuple[str, ...]
    shape: tuple[int, ...]
    scale: float = 1.0

    @property
    def size(self) -> int:
        return math.prod(self.shape) * len(self.module_names)


def plan(config: PretrainedConfig, names: Names) -> list[Planned]:
    """Every tensor that save_pretrained would write, under the names of the wanted form."""
    with torch.device("meta"):
        model = CLASSES[config.model_type](config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    scales: dict[str, float] = {}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
        scales = _TIED_SCALES if config.model_type.startswith("qwen") else {}
    planned = _planned(shapes, names, config.vision_config.model_type)
    return [replace(tensor, scale=scales.get(tensor.module_names[0], 1.0)) for tensor in planned]


def _planned(shapes: dict[str, tuple[int, ...]], names: Names, tower: str) -> Iterator[Planned]:
    for name, shape in shapes.items():
        in_tower = "vision_tower" in name
        if names != "new" and in_tower and ".up_proj." in name:
            continue
        if names != "new" and in_tower and ".gate_proj." in name:
            yield Planned(file_name(name, names, tower), (name, name.replace("gate_proj", "up_proj")), shape)
        else:
            yield Planned(file_name(name, names, tower), (name,), shape)


def file_name(module_name: str, names: Names, tower: str) -> str:
    """The name in the file of a tensor that the module calls `module_name`."""
    if names == "new" or tower in _ONE_FORM:
        return module_name
    rules = [*(_OLD_QWEN if tower in _QWEN_TOWERS else _OLD)]
    if "vision_tower" in module_name and tower in _NESTED_TOWERS:
        rules += [*_NESTED, *(_SWIGLU if tower == "dinov2" else _NESTED_MLP)]
    if names == "hub" and tower in _CLIP_NAMES:
        rules.append((r"^vision_tower\.", "vision_tower.vision_model."))
    name = module_name
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def values(planned: Planned, seed: int, depth: int) -> NDArray[np.float32]:
    """The tensor's numbers. `depth`: layers of the deepest part, to keep the residual stream of order one."""
    halves = [_values(name, planned.shape, seed, depth) for name in planned.module_names]
    whole = halves[0] if len(halves) == 1 else np.concatenate(halves)
    whole *= np.float32(planned.scale)
    return whole


def _values(name: str, shape: tuple[int, ...], seed: int, depth: int) -> NDArray[np.float32]:
    noise = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)
    centre, spread = _centre_and_spread(name, shape, depth)
    noise *= np.float32(spread)  # in place: the largest table is half a gigabyte
    noise += np.float32(centre)
    return noise


def _centre_and_spread(name: str, shape: tuple[int, ...], depth: int) -> tuple[float, float]:
    if re.search(r"lambda_?[12]", name):
        return 0.7, 0.1
    if re.search(r"self_attn\.[qk]_norm", name):
        return 1.5, 0.3  # normalised queries and keys would leave attention flat
    if re.search(r"(norm\w*|ln_q)\.weight$", name):
        return 1.0, 0.1
    if name.endswith(".bias"):
        return 0.0, 0.1
    if re.search(r"embed_tokens|lm_head|image_newline", name):
        # With a final norm of order one, logits get a standard deviation of 3.
        return 0.0, 3 / math.sqrt(shape[-1])
    if re.search(r"class_embedding|_token$|position_embedding|pos_embed", name):
        return 0.0, 0.5
    return 0.0, _gain(name, depth) / math.sqrt(math.prod(shape[1:]))


def _gain(name: str, depth: int) -> float:
    if re.search(r"([qk]_proj|attn\.qkv)\.weight$", name):
        return 1.5
    if re.search(r"(o_proj|out_proj|attn\.proj|projection_layer|down_proj|fc2)\.weight$", name):
        return 2 / math.sqrt(2 * depth)
    return 1.0
