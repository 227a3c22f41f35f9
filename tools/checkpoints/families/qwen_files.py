"""What else lies in the folders of Qwen-VL: published forms of config.json, sampling that nobody asked for, chat templates."""

from __future__ import annotations

from typing import Any

from ..recipe import Recipe

_PICTURE = (
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
)
_COUNTS = "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
_TEMPLATE = (
    _COUNTS + "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}" + _PICTURE + "{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_THREE_TEMPLATE = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' }}"
    "{%- if messages[0].content is string %}{{- messages[0].content }}"
    "{%- else %}{%- for content in messages[0].content %}"
    "{%- if 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endif %}" + _COUNTS + "{%- for message in messages %}"
    "{%- if message.role == 'user' or message.role == 'assistant' %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for content in message.content %}" + _PICTURE + "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
#: What published files sample with; the answer of a comparison is greedy all the same.
_SAMPLING: dict[str, dict[str, Any]] = {
    "qwen2_vl": {"temperature": 0.01, "top_k": 1, "top_p": 0.001},
    "qwen2_5_vl": {"temperature": 1e-6, "repetition_penalty": 1.05},
    "qwen3_vl": {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0},
}


def template(recipe: Recipe) -> str:
    """Of Qwen2-VL and Qwen2.5-VL: a system turn is written where none is given."""
    return _TEMPLATE


def three_template(recipe: Recipe) -> str:
    """Of Qwen3-VL: no system turn but the one that is given."""
    return _THREE_TEMPLATE


def generation(recipe: Recipe, ids: dict[str, int]) -> dict[str, Any]:
    """generation_config.json: it samples, and two tokens end an answer."""
    return {
        "bos_token_id": ids["pad"],
        "pad_token_id": ids["pad"],
        "do_sample": True,
        "eos_token_id": [ids["eos"], ids["pad"]],
        **_SAMPLING[recipe.family],
    }


def video_processor(recipe: Recipe) -> dict[str, Any]:
    """video_preprocessor_config.json, with other limits than for pictures."""
    kind = "Qwen3VLVideoProcessor" if recipe.family == "qwen3_vl" else "Qwen2VLVideoProcessor"
    unit = recipe.shape.patch_px * recipe.merge
    return {
        "size": {"shortest_edge": unit * unit, "longest_edge": 512 * unit * unit},
        "patch_size": recipe.shape.patch_px,
        "temporal_patch_size": 2,
        "merge_size": recipe.merge,
        "video_processor_type": kind,
    }


def published(recipe: Recipe, config: dict[str, Any]) -> dict[str, Any]:
    """config.json in the wanted form.

    "hub": Qwen2-VL and Qwen2.5-VL have no text_config, its keys are the root's; Qwen3-VL has one with rope_scaling. "both":
    text_config, and its keys at the root besides, as some releases of transformers wrote derivatives.
    """
    named = {} if recipe.called is None else {"_name_or_path": recipe.called}
    if recipe.config == "new":
        return {**named, **config}
    root = {name: value for name, value in config.items() if name != "text_config"}
    # Keys that are younger than the published files.
    text = {name: value for name, value in config["text_config"].items() if name not in ("layer_types", "pad_token_id")}
    vision = {name: value for name, value in root["vision_config"].items() if name != "rope_parameters"}
    root["torch_dtype"] = root.pop("dtype")
    if recipe.family == "qwen3_vl":
        vision["model_type"] = "qwen3_vl"
        return {**named, **root, "text_config": _scaled(text, {"rope_type": "default"}), "vision_config": vision}
    if recipe.family == "qwen2_5_vl":
        vision["model_type"] = "qwen2_5_vl"
    else:
        del vision["model_type"]
    vision = {("in_chans" if name == "in_channels" else name): value for name, value in vision.items()}
    vision["spatial_patch_size"] = vision["patch_size"]
    # A window that is not used, and short enough to be noticed.
    text |= {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1}
    text = _scaled(text, {"type": "mrope"} if recipe.config == "hub" else {"rope_type": "default", "type": "default"})
    if recipe.config == "both":
        root["text_config"] = {**text, "image_token_id": None, "video_token_id": None}
    flat = {name: value for name, value in text.items() if name not in ("model_type", "dtype")}
    return {**named, **flat, **root, "vision_config": vision}


def _scaled(text: dict[str, Any], unscaled: dict[str, Any]) -> dict[str, Any]:
    """rope_parameters under the older name: theta beside them, and in them what said that nothing is scaled."""
    values = {name: value for name, value in text.items() if name != "rope_parameters"}
    rope = dict(text["rope_parameters"])
    values["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    values["rope_scaling"] = {**(unscaled if kind == "default" else {"rope_type": kind}), **rope}
    return values
