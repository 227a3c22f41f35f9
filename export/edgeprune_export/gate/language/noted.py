"""Queries, keys and values of the library's decoder layers, as they reach the attention itself: normed and turned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

LANGUAGE_ATTENTION = "edgeprune_noted_language"


class AttentionInputs(NamedTuple):
    """query [n, H, d], key and value [n, G, d]."""

    query: Tensor
    key: Tensor
    value: Tensor


_listeners: dict[int, tuple[int, dict[int, AttentionInputs]]] = {}


def register_language() -> None:
    """Make the attention function known to transformers under its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(LANGUAGE_ATTENTION, _attention)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """The library's own, without a mask: one sequence, of which every row sees those before."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    assert attention_mask is None
    if id(module) in _listeners:
        layer, noted = _listeners[id(module)]
        noted[layer] = AttentionInputs(*(part[0].transpose(0, 1) for part in (query, key, value)))
    mixed: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask=None, **kwargs)
    return mixed


@contextmanager
def noting_language(layers: Sequence[nn.Module], of: set[int]) -> Iterator[dict[int, AttentionInputs]]:
    """What the attention of these layers is given while the model runs, the last time that it runs."""
    noted: dict[int, AttentionInputs] = {}
    modules = [(number, layers[number].self_attn) for number in of]
    _listeners.update({id(module): (number, noted) for number, module in modules})
    try:
        yield noted
    finally:
        for _, module in modules:
            del _listeners[id(module)]
