"""What a token-reduction method may look at, and what it returns.

Axes: T tiles (tile 0 is the thumbnail), N tokens per tile, H heads, C channels of the tower, D channels of the language model,
M rows for question tokens, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_UNREAD = torch.empty(0)
_BY_LAYER = {"attention": "attention", "wide": "wide", "map": "maps", "keys": "keys"}


class TowerOutputs(NamedTuple):
    """One picture after the vision tower. Only what a method's `Reads` asks for is there, besides the first, and the three of the layout.

    features   [T, N, C]  output of the feature layer, class token removed (SigLIP has none)
    slot       [T, N] int64  position in the unpruned packed sequence; -1 for padding and absent tiles, which are never kept
    region     [T, N] 0/1  thumbnail patch n lies in the area of tile t; row 0 is zero
    mosaic     [2] int64  rows and columns of the unpadded mosaic
    attention  {layer: [T, H, N]}  class-token attention rows; softmax over N + 1 keys, class column removed
    wide       {layer: [T, N]}  the same with one head over the full width: softmax(q K^T / sqrt(C))
    maps       {layer: [T, R, N]}  attention of every query, mean over heads, class column removed; R = N + 1, row 0 the class
               token's, or R = N without one: the last N rows are those of the N tokens
    keys       {layer: [T, N, C]}  key projections with bias, heads side by side, class token removed
    class_feature  [T, C]  class token at the output of the feature layer
    projected  [T, N, D]  features after the projector
    question   [M, D]  input embeddings of the question's words in the language model
    question_weight  [M]  1/m for the m rows in use, 0 for the rest; all 0 without a question
    entropy    [T, N]  Shannon entropy in bits of the grey values of each patch
    flow       [T, N]  score of the tokens that a cutting tower let through, -1 for those that left inside it
    """

    features: Tensor
    slot: Tensor
    region: Tensor
    mosaic: Tensor
    attention: Mapping[int, Tensor] = {}
    wide: Mapping[int, Tensor] = {}
    maps: Mapping[int, Tensor] = {}
    keys: Mapping[int, Tensor] = {}
    class_feature: Tensor = _UNREAD
    projected: Tensor = _UNREAD
    question: Tensor = _UNREAD
    question_weight: Tensor = _UNREAD
    entropy: Tensor = _UNREAD
    flow: Tensor = _UNREAD


@dataclass(frozen=True)
class Reads:
    """What a method looks at besides features and layout: vision layers per kind of reading, and yes or no for the rest."""

    attention: tuple[int, ...] = ()
    wide: tuple[int, ...] = ()
    map: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    class_feature: bool = False
    projected: bool = False
    question: bool = False
    entropy: bool = False
    flow: bool = False

    @property
    def class_token(self) -> bool:
        """Whether the tower must have a class token."""
        return bool(self.attention or self.wide or self.class_feature or self.flow)

    @property
    def layers(self) -> tuple[int, ...]:
        """All vision layers that are read, ascending."""
        return tuple(sorted({*self.attention, *self.wide, *self.map, *self.keys}))

    @property
    def tower(self) -> tuple[str, ...]:
        """Names of the tower's outputs besides "features": "attention_22", "projected" ..."""
        layered = [f"{kind}_{layer}" for kind in _BY_LAYER for layer in sorted(set(getattr(self, kind)))]
        return (*layered, *(name for name in ("class_feature", "projected", "flow") if getattr(self, name)))

    @property
    def host(self) -> tuple[str, ...]:
        """Names of what the host adds: the question and its weights, the entropy."""
        question = ("question", "question_weight") if self.question else ()
        return (*question, *(("entropy",) if self.entropy else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.tower, *self.host)


def union(reads: Iterable[Reads]) -> Reads:
    """Everything that any of several methods looks at."""
    several = tuple(reads)

    def layers(kind: str) -> tuple[int, ...]:
        return tuple(sorted({layer for one in several for layer in getattr(one, kind)}))

    return Reads(
        **{kind: layers(kind) for kind in _BY_LAYER},
        class_feature=any(one.class_feature for one in several),
        projected=any(one.projected for one in several),
        question=any(one.question for one in several),
        entropy=any(one.entropy for one in several),
        flow=any(one.flow for one in several),
    )


def outputs_from(named: Mapping[str, Tensor]) -> TowerOutputs:
    """Put readings by name ("features", "attention_22", "slot" ...) in their places."""
    plain: dict[str, Tensor] = {}
    layered: dict[str, dict[int, Tensor]] = {}
    for name, value in named.items():
        kind, _, layer = name.rpartition("_")
        if kind in _BY_LAYER and layer.isdecimal():
            layered.setdefault(_BY_LAYER[kind], {})[int(layer)] = value
        else:
            plain[name] = value
    return TowerOutputs(**plain, **layered)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Reduction:
    """`index` [K] int64: flat token t * N + n of each output row, ascending by slot, -1 where nothing is left to keep.

    `transform` [K, T * N]: weights of the tokens that are merged into each row, zero where index is -1; None when tokens are dropped.
    """

    index: Tensor
    transform: Tensor | None
