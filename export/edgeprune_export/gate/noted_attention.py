"""Queries and keys of transformers' own attention layers, as they reach the attention itself: turned by their positions.

Towers of some families return no attention maps and keep queries, keys and values in one layer. transformers lets anybody register an
attention function (`AttentionInterface`): this one computes what its eager one does, and shows what it was given to whoever listens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NAME = "edgeprune_noted"
Noted = dict[int, tuple[Tensor, Tensor]]
"""Queries and keys [R, heads * d] by layer; of a layer that attends inside windows, those of its last window."""
Listener = Callable[[Tensor, Tensor, Tensor, float], "Tensor | None"]
"""(queries, keys, values [H, R, d], scale of the logits) -> attention [H, R, R] to use; None: the module's own."""
_listeners: dict[int, Listener] = {}


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
    """query, key, value [1, H, R, d] -> [1, R, H, d]; towers have no mask, or one that hides nothing."""
    listener = _listeners.get(id(module))
    given = None if listener is None else listener(query[0], key[0], value[0], scaling)
    if given is None:
        assert attention_mask is None or bool((attention_mask == 0).all() or (attention_mask == 1).all())
        given = torch.softmax(query @ key.transpose(2, 3) * scaling, dim=-1, dtype=torch.float32).to(query.dtype)[0]
    return (given @ value).transpose(1, 2).contiguous(), None


def joined_heads(part: Tensor) -> Tensor:
    """[H, R, d] -> [R, H * d]."""
    return part.transpose(0, 1).flatten(1)


@contextmanager
def listening(listeners: Mapping[nn.Module, Listener]) -> Iterator[None]:
    """Let listeners hear what these attention layers are given, and say what they use."""
    _listeners.update({id(module): listener for module, listener in listeners.items()})
    try:
        yield
    finally:
        for module in listeners:
            del _listeners[id(module)]


@contextmanager
def noting(tower: nn.Module, layers: set[int]) -> Iterator[Noted]:
    """What attention layers of these blocks are given while the tower runs."""
    noted: Noted = {}

    def listener(layer: int) -> Listener:
        def listen(query: Tensor, key: Tensor, value: Tensor, scale: float) -> None:
            noted[layer] = joined_heads(query), joined_heads(key)

        return listen

    modules = {
        module: listener(int(found[1]))
        for name, module in tower.named_modules()
        if (found := re.search(r"(?:^|\.)blocks\.(\d+)\.attn$", name)) and int(found[1]) in layers
    }
    with listening(modules):
        yield noted
