"""The language models of Qwen-VL: Qwen2 and Qwen3 whose positions have three axes (time, height, width).

Which axis turns which pair of a head is data: in sections (Qwen2-VL, arXiv 2409.12191), or interleaved (Qwen3-VL, arXiv 2511.21631).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgeprune.models.config.rope import rope_sections
from edgeprune.models.config.section import Section
from edgeprune.models.decoders.base import DecoderKind
from edgeprune.models.decoders.qwen import QWEN2, QWEN3

Sections = tuple[int, int, int]


def in_sections(sections: Sections) -> tuple[int, ...]:
    """First the pairs of time, then those of height, then those of width."""
    return tuple(axis for axis, count in enumerate(sections) for _ in range(count))


def interleaved(sections: Sections) -> tuple[int, ...]:
    """Pairs 1, 4, 7 ... below three times the height's share turn with height, 2, 5, 8 ... with width, all others with time."""
    pairs = range(sum(sections))
    return tuple(axis if (axis := pair % 3) and pair < 3 * sections[axis] else 0 for pair in pairs)


def _traits(
    base: DecoderKind, default: Sections, order: Callable[[Sections], tuple[int, ...]]
) -> Callable[[Section], dict[str, Any]]:
    def read(text: Section) -> dict[str, Any]:
        if text.flag("use_sliding_window", False):
            raise text.refuse("use_sliding_window", "false (transformers does not compute it with these positions)")
        hidden, heads = text.integer("hidden_size", 4096), text.integer("num_attention_heads", 32)
        width = text.optional_integer("head_dim", base.head_dim, least=1) or hidden // heads
        return {**base.traits(text), "pair_axes": order(rope_sections(text, default, width // 2)), "kind": base.name}

    return read


_SECOND, _THIRD = (16, 24, 24), (24, 20, 20)
QWEN2_THREE_AXES = replace(
    QWEN2,
    name="qwen2_vl_text",
    traits=_traits(QWEN2, _SECOND, in_sections),
    vocab=152064,
    mlp=29568,
    kv_heads=8,
    bos=151643,
    eos=151645,
    eps=1e-5,
    theta=1e6,
    sections=_SECOND,
)
QWEN2_5_THREE_AXES = replace(QWEN2_THREE_AXES, name="qwen2_5_vl_text")
QWEN3_THREE_AXES = replace(
    QWEN3,
    name="qwen3_vl_text",
    traits=_traits(QWEN3, _THIRD, interleaved),
    max_positions=128000,
    theta=5e5,
    sections=_THIRD,
)
