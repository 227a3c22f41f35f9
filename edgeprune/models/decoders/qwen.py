"""Qwen2, with biases on queries, keys and values, and Qwen3, with a norm on each query and key head instead."""

from __future__ import annotations

from typing import Any

from edgeprune.models.config.section import Section
from edgeprune.models.decoders.base import DecoderKind, window_by_layer_types


def _qwen2(text: Section) -> dict[str, Any]:
    return {"attention_bias": True, "sliding_window": window_by_layer_types(text)}


def _qwen3(text: Section) -> dict[str, Any]:
    bias = text.flag("attention_bias", False)
    window = window_by_layer_types(text)
    return {"attention_bias": bias, "output_bias": bias, "qk_norm": True, "sliding_window": window}


QWEN2 = DecoderKind("qwen2", _qwen2, 151936, 22016, 32, 32768, None, None)
QWEN3 = DecoderKind("qwen3", _qwen3, 151936, 22016, 32, 32768, None, None, head_dim=128)
