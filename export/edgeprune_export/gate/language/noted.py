"""Queries, keys and values of the library's decoder layers, as they reach the attention itself, normed and turned; what is active in their
MLPs, and how much attention and MLP change rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgeprune.tokens.inside.rows import changes

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


class NotedMlps(NamedTuple):
    """By layer: active [n, F]; changed [n, 4], `changes` of attention and MLP."""

    active: dict[int, Tensor]
    changed: dict[int, Tensor]


@contextmanager
def noting_mlps(layers: Sequence[Any], active: set[int], changed: set[int]) -> Iterator[NotedMlps]:
    """What is active in the MLPs of some layers, and how much some change rows, the last time that they run."""
    found = NotedMlps({}, {})
    seen: dict[tuple[int, str], Tensor] = {}

    def note(number: int, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen[number, name] = (output[0] if isinstance(output, tuple) else output)[0]

        return hook

    def note_active(number: int) -> Any:
        return lambda module, args, output: found.active.update({number: output[0]})

    def count(number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given, made = (seen[number, name] for name in ("input_layernorm", "self_attn"))
            after, last = (seen[number, name] for name in ("post_attention_layernorm", "mlp"))
            found.changed[number] = torch.cat([changes(given, made), changes(after, last)], dim=1)

        return hook

    with ExitStack() as stack:
        for number in active:
            stack.callback(layers[number].mlp.act_fn.register_forward_hook(note_active(number)).remove)
        for number in changed:
            for name in ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp"):
                part = layers[number].get_submodule(name)
                stack.callback(part.register_forward_hook(note(number, name)).remove)
            stack.callback(layers[number].register_forward_hook(count(number)).remove)
        yield found
