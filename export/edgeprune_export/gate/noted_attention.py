"""Queries and keys of transformers' own attention layers, as they reach the attention itself: turned by their positions.

Towers of some families return no attention maps and keep queries, keys and values in one layer. transformers lets anybody register an
attention function (`AttentionInterface`): this one computes what its eager one does, and shows what it was given to whoever listens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NAME = "edgeprune_noted"
Noted = dict[int, tuple[Tensor, Tensor]]
"""Queries and keys [R, heads * d] by layer; of a layer that attends inside windows, those of its last window."""
_listeners: dict[int, tuple[int, Noted]] = {}


def register() -> None:
    """Make the attention function known to transformers under NAME."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query, key, value [1, H, R, d] -> [1, R, H, d]; towers have no mask."""
    assert attention_mask is None
    if id(module) in _listeners:
        layer, noted = _listeners[id(module)]
        noted[layer] = tuple(part[0].transpose(0, 1).flatten(1) for part in (query, key))  # type: ignore[assignment]
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), None


@contextmanager
def noting(tower: nn.Module, layers: set[int]) -> Iterator[Noted]:
    """What attention layers of these blocks are given while the tower runs."""
    noted: Noted = {}
    modules = {
        id(module): int(found[1])
        for name, module in tower.named_modules()
        if (found := re.search(r"(?:^|\.)blocks\.(\d+)\.attn$", name)) and int(found[1]) in layers
    }
    _listeners.update({key: (layer, noted) for key, layer in modules.items()})
    try:
        yield noted
    finally:
        for key in modules:
            del _listeners[key]
