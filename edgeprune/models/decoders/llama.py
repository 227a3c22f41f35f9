"""Llama, and Mistral, which differs by its sliding window."""

from __future__ import annotations

from typing import Any

from edgeprune.models.config.section import Section
from edgeprune.models.decoders.base import DecoderKind


def _llama(text: Section) -> dict[str, Any]:
    bias = text.flag("attention_bias", False)
    return {"attention_bias": bias, "output_bias": bias, "mlp_bias": text.flag("mlp_bias", False)}


def _mistral(text: Section) -> dict[str, Any]:
    """The window is on unless null."""
    default = 4096 if "sliding_window" not in text.values else None
    return {"sliding_window": text.optional_integer("sliding_window", default, least=1)}


LLAMA = DecoderKind("llama", _llama, 32000, 11008, None, 2048, 1, 2)
MISTRAL = DecoderKind("mistral", _mistral, 32000, 14336, 8, 131072, 1, 2)
