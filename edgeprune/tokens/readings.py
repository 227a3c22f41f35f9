"""What a token-reduction method may look at, and what it returns.

Axes: T tiles, N visual tokens per tile (units of merge x merge patches), H heads, C channels of a visual token before the connector,
D channels of the language model, M rows for question tokens, K kept tokens. Tile 0 is the overview where `Geometry.overview` says so,
wherever it stands in the prompt: `slot` has the order of the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from edgeprune.later import torch
from edgeprune_runtime.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Need = Literal["class token", "overview", "single patches", "whole attention"]
Place = Literal["block", "feature layer", "tower", "host", "picture"]


@dataclass(frozen=True)
class Reading:
    """One kind of thing that a method can look at, besides the features. How it is computed stands in two tables with the same names,
    one for graphs (`edgeprune_export.graphs.readings`) and one for transformers' own modules (`edgeprune_export.gate.eager_tower`).

    made   where: in a block (and so once per layer), at the feature layer, by a tower of the method's own, by the host, or from the
           picture's geometry, which is always there
    shape  in words, for people
    needs  what the model must have; "whole attention": the block that is read attends to all of a tile, not inside windows
    """

    name: str
    words: str
    made: Place
    shape: str
    needs: frozenset[Need] = frozenset()


_WHOLE: frozenset[Need] = frozenset({"whole attention"})
_CLASS: frozenset[Need] = frozenset({"class token"})
READINGS: Registry[Reading] = Registry("reading", group="edgeprune.readings", kind=Reading)
for _reading in (
    # softmax over all keys, the class token's column removed
    Reading("attention", "class attention", "block", "[T, H, N]", _CLASS),
    # the same with one head over the full width: softmax(q K^T / sqrt(C))
    Reading("wide", "wide attention", "block", "[T, N]", _CLASS),
    # of every query, mean over heads; R = N + 1, row 0 the class token's, or R = N without one: the last N rows are the tokens'
    Reading("map", "map", "block", "[T, R, N]", _WHOLE),
    # what a token receives of the other tokens' attention, mean over heads and over the N tokens that ask
    Reading("received", "attention received", "block", "[T, N]", _WHOLE),
    # key projections with bias
    Reading("keys", "keys", "block", "[T, N, H, d]"),
    # class token at the output of the feature layer, as often as patches are merged
    Reading("class_feature", "class feature", "feature layer", "[T, C]", _CLASS),
    # features behind the connector
    Reading("projected", "projected", "feature layer", "[T, N, D]"),
    # what a method inside the tower carried from block to block; 0 for tokens that left there
    Reading(
        "carried",
        "queries, keys and values of all layers",
        "tower",
        "[T, N]",
        frozenset({"class token", "single patches"}),
    ),
    # input embeddings of the question's words in the language model
    Reading("question", "question", "host", "[M, D]"),
    # 1/m for the m rows in use, 0 for the rest; all 0 without a question
    Reading("question_weight", "", "host", "[M]"),
    # Shannon entropy in bits of the grey values of each token's pixels
    Reading("entropy", "entropy", "host", "[T, N]"),
    Reading("overview", "overview", "picture", "", frozenset({"overview"})),
):
    READINGS.add(_reading.name, _reading)


class Read(NamedTuple):
    """One thing that is read: a kind, and the vision layer where there is one per layer."""

    kind: str
    layer: int | None = None

    @property
    def name(self) -> str:
        """Of the tensor in graphs: "attention_22", "projected"."""
        return self.kind if self.layer is None else f"{self.kind}_{self.layer}"


@dataclass(frozen=True)
class Reads:
    """Everything that a method looks at besides features and geometry. Make one with `reads`."""

    all: frozenset[Read] = frozenset()

    def __iter__(self) -> Iterator[Read]:
        """In the order of the table, then of the layers."""
        order = list(READINGS)
        return iter(sorted(self.all, key=lambda read: (order.index(read.kind), read.layer or 0)))

    def __or__(self, other: Reads) -> Reads:
        return Reads(self.all | other.all)

    def __contains__(self, kind: str) -> bool:
        return any(read.kind == kind for read in self.all)

    @property
    def needs(self) -> frozenset[Need]:
        """What the model must have."""
        return frozenset[Need]().union(*(READINGS[read.kind].needs for read in self.all))

    @property
    def layers(self) -> tuple[int, ...]:
        """All vision layers that are read, ascending."""
        return tuple(sorted({read.layer for read in self.all if read.layer is not None}))

    def of(self, *places: Place) -> tuple[Read, ...]:
        """What is made there."""
        return tuple(read for read in self if READINGS[read.kind].made in places)

    @property
    def tower(self) -> tuple[str, ...]:
        """Names of the tower's outputs besides "features": "attention_22", "projected" ..."""
        return tuple(read.name for read in self.of("block", "feature layer", "tower"))

    @property
    def host(self) -> tuple[str, ...]:
        """Names of what the host adds: the question and its weights, the entropy."""
        return tuple(read.name for read in self.of("host"))


def reads(*kinds: str, **layers: Iterable[int]) -> Reads:
    """`reads("projected", "question", attention=(0, 22))`: kinds that there is one of, and layers of those there is one per layer of."""
    for kind in (*kinds, *layers):
        if kind not in READINGS or (kind in layers) != (READINGS[kind].made == "block"):
            raise ValueError(f"there is no reading {kind!r} {'by layer' if kind in layers else 'without a layer'}")
    more = ("question_weight",) if "question" in kinds else ()
    plain = {Read(kind) for kind in (*kinds, *more)}
    return Reads(frozenset(plain | {Read(kind, layer) for kind, numbers in layers.items() for layer in numbers}))


def union(several: Iterable[Reads]) -> Reads:
    """Everything that any of several methods looks at."""
    return Reads(frozenset().union(*(one.all for one in several)))


class Geometry(NamedTuple):
    """What is the same for every picture of a model: tiles of `side` x `side` tokens in raster order, behind `extra` tokens that are no
    patch; whether tile 0 of every picture shows the whole of it."""

    side: int
    extra: int = 0
    overview: bool = True


@dataclass(frozen=True, eq=False)
class TowerOutputs:
    """One picture after the vision tower.

    features  [T, N, C]  output of the feature layer, patches merged, without the class token
    slot      [T, N] int64  place in the order of the prompt; -1 for padding and absent tiles, which are never kept
    region    [T, N] 0/1  token n of the overview lies in the area of tile t; row 0 is zero
    places    [T, N, 2] int64  row and column on the unpadded canvas, the overview's in its own tile; -1 without a place
    readings  by name; `outputs["attention", 22]` and `outputs["projected"]` look them up
    """

    features: Tensor
    slot: Tensor
    region: Tensor
    places: Tensor
    geometry: Geometry
    readings: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, read: str | tuple[str, int]) -> Tensor:
        return self.readings[read if isinstance(read, str) else Read(*read).name]


def outputs_from(named: Mapping[str, Tensor], geometry: Geometry) -> TowerOutputs:
    """Put tensors by name ("features", "slot", "attention_22" ...) in their places."""
    always = {name: named[name] for name in ("features", "slot", "region", "places")}
    return TowerOutputs(**always, geometry=geometry, readings={k: v for k, v in named.items() if k not in always})


#: What a tower that is cut says of its tokens [T, N]: 1 where one is.
ALIVE = "alive"


def alive_slots(slot: Tensor, alive: Tensor) -> Tensor:
    """slot [T, N] without the tokens that left inside the tower: no method can keep them."""
    return torch.where(alive > 0, slot, -1)


@dataclass(frozen=True)
class Reduction:
    """`index` [K] int64: flat token t * N + n of each output row, ascending by slot, -1 where nothing is left to keep.

    `transform` [K, T * N]: weights of the tokens that are merged into each row, zero where index is -1; None when tokens are dropped.
    """

    index: Tensor
    transform: Tensor | None
