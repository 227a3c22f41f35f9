"""Which rows go on into a stage of the language model, as one static graph per cut.

The ranking is written once, in torch (edgeprune.tokens.inside), and traced here; products with weights before it are written by hand. No
size of the graph depends on how many rows stay: that number is an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from edgeprune.tokens.inside.place import CutPlace
from edgeprune.tokens.inside.recycling import Recycled, recycled_of, standing
from edgeprune.tokens.inside.rows import LanguageRows, going_on, summed_changes, turned_back
from edgeprune_export.graphs.decoder import angles, next_layer
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.trace import trace
from edgeprune_export.onnx.walk import values_read
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import TensorSpec
from edgeprune_runtime.stages.recycled import rows_beside, states_before

_FLOAT32 = 1
_Sizes = tuple[str, tuple[int, ...]]


def rank_graph(place: CutPlace, writer: WeightsWriter, weights_file: str) -> Graph:
    """Rows of the stage before -> those that go on into this one.

    Of L rows of the stage before, P of the prompt, M in a chunk of the stage and C chunks there. Inputs, of which only those that the
    ranking uses are declared: visual [P] int64 0/1; position_ids [axes, P]; origin [L], which row of the prompt each is, absent before the
    first cut, where it is itself; position_ids_before [C', axes, M'], positions that rows have in the stage before; total [1], rows that are
    there; count [1], visual rows that stay; asking [R] and asking_weight [R]; query [L, H d]; past_key_i and past_value_i; states [L, W];
    salience [P]; places [P, 2]; embeds [P, D]; active [L, F]; changed [L, 4 a layer]; carried [P].
    Outputs: rows [C, M] of the stage before; position_ids_of_rows [C, axes, M]; origin_of_rows [C M]; carried_of_rows [P] where later cuts
    need something of this one, the next one's input carried; beside [E, W] where means of rows that leave stay, rows number L and on.
    """
    stage, axes = place.language.stages[place.number], place.language.axes
    g = Graph(str(stage.rank), weights_file=weights_file)
    values = ranking_inputs(place)
    made = (
        "chosen",
        "chosen_origin",
        "chosen_positions",
        *(("carried_on",) if place.carries else ()),
        *(("means",) if stage.recycles else ()),
    )
    traced = trace(
        f"ranking {place.cut.name}",
        Ranking(place),
        tuple(TensorSpec(name, dtype, shape) for name, (dtype, shape) in values.items()),
        made,
    )
    traced.graph.name = "rank"
    used = values_read(traced.graph.node)
    source = _Source(g, place, writer)
    g.splice(traced, {name: source(name) if name in used else name for name in values} | {name: name for name in made})
    chunk = place.language.chunk_of(stage)
    chunks = stage.capacity // chunk
    g.output("chosen", "rows", "int64", (chunks, chunk))
    g.output("chosen_positions", "position_ids_of_rows", "int64", (chunks, axes, chunk))
    g.output("chosen_origin", "origin_of_rows", "int64", (stage.capacity,))
    if stage.recycles:
        size = rows_beside(place.language, place.number), place.language.width_before(stage.first)
        g.output("means", "beside", "float32", size)
    if place.carries:
        g.output("carried_on", "carried_of_rows", "float32", (place.prompt,))
    return g


def ranking_inputs(place: CutPlace) -> dict[str, _Sizes]:
    """What `Ranking` takes, by name, in its order."""
    decoder, reads = place.decoder.at(place.layer), place.cut.reads
    following = place.decoder.at(place.layer + 1)
    rows, prompt, asks, width = place.rows, place.prompt, place.cut.asks, decoder.head_dim
    found: dict[str, _Sizes] = {
        "visual": ("int64", (prompt,)),
        "position_ids": ("int64", (place.language.axes, prompt)),
        "total": ("int64", (1,)),
        "count": ("int64", (1,)),
    }
    if place.cut.once and not place.first:
        return found | {"origin": ("int64", (rows,)), "carried": ("float32", (prompt,))}
    if not place.first:
        found["origin"] = ("int64", (rows,))
    if asks:
        found |= {"asking": ("int64", (asks,)), "asking_weight": ("float32", (asks,))}
    if reads & {"attention", "plain"}:
        found["query"] = ("float32", (rows, decoder.heads * width))
        found["key"] = ("float32", (1, decoder.kv_heads, rows, width))
    if "values" in reads:
        found["value"] = ("float32", (1, decoder.kv_heads, rows, width))
    if "plain" in reads:
        found |= dict.fromkeys(("cos", "sin"), ("float32", (1, rows, width // 2)))
    if "next" in reads:
        found["next_query"] = ("float32", (1, rows, following.heads * width))
        found["next_key"] = ("float32", (1, rows, following.kv_heads * width))
    if "salience" in reads:
        found["salience"] = ("float32", (prompt,))
    if "places" in reads:
        found["places"] = ("int64", (prompt, 2))
    if "embeds" in reads:
        found["embeds"] = ("float32", (prompt, place.decoder.hidden))
    if "active" in reads:
        found["active"] = ("float32", (rows, decoder.mlp))
    if place.language.stages[place.number].recycles:
        size = states_before(place.language, place.number), place.language.width_before(place.layer + 1)
        found["states"] = ("float32", size)
    if "changed" in reads:
        found["changed"] = ("float32", (rows, 4 * len(place.changed)))
        if not place.first:
            found["carried"] = ("float32", (prompt,))
    return found


class _Source:
    """Where the values come from that a traced ranking takes: inputs of the graph, or nodes written by hand, each made once."""

    def __init__(self, g: Graph, place: CutPlace, writer: WeightsWriter) -> None:
        self._g, self._place, self._writer = g, place, writer
        self._sizes = ranking_inputs(place)
        self._made: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._made:
            if name in ("key", "value"):
                self._made[name] = self._cached(name)
            elif name in ("cos", "sin"):
                self._name(angles(self._g, self._writer, self._place.decoder, self._positions()), "cos", "sin")
            elif name in ("next_query", "next_key"):
                self._name(self._next(), "next_query", "next_key")
            else:
                self._made[name] = self._g.input(name, *self._sizes[name])
        return self._made[name]

    def _name(self, values: Sequence[str], *names: str) -> None:
        """The gate finds values by their names."""
        for value, name in zip(values, names, strict=True):
            self._made[name] = self._g.node("Identity", [value], name=name)

    def _cached(self, kind: str) -> str:
        """Keys or values of the layer before, as the cache has them, in float32."""
        cached = self._g.input(f"past_{kind}_{self._place.layer}", *self._sizes[kind])
        return self._g.node("Cast", [cached], name=kind, to=_FLOAT32)

    def _positions(self) -> str:
        """[axes, L]: those of the rows of the stage before."""
        if self._place.first and self._place.rows == self._place.prompt:
            return self("position_ids")
        if "arrived" not in self._made:
            g, language = self._g, self._place.language
            before = language.stages[self._place.number - 1]
            chunk = language.chunk_of(before)
            size = before.capacity // chunk, language.axes, chunk
            by_axis = g.node("Transpose", [g.input("position_ids_before", "int64", size)], perm=[1, 0, 2])
            self._made["arrived"] = g.node("Reshape", [by_axis, g.integers(language.axes, before.capacity)])
        return self._made["arrived"]

    def _next(self) -> tuple[str, str]:
        """Of rows that are there, the last of them in place of what lies behind: int8 products choose one scale for all rows."""
        place, g = self._place, self._g
        states = g.input("states", "float32", (place.rows, place.language.width_before(place.layer + 1)))
        numbers = g.constant("numbers_of_rows", np.arange(place.rows))
        last = g.node("Sub", [self("total"), g.constant("one_row", np.asarray([1]))])
        states = g.node("Gather", [states, g.node("Min", [numbers, last])], axis=0)
        return next_layer(self._g, self._writer, place.decoder, place.layer + 1, states, self._positions(), place.rows)


class Ranking(torch.nn.Module):
    """A method and the rule that takes the first of its order, as a module over plain tensors, the form that torch.onnx traces."""

    def __init__(self, place: CutPlace) -> None:
        super().__init__()
        self._place, self._names = place, tuple(ranking_inputs(place))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(self._names, inputs, strict=True))
        language = self._place.language
        stage = language.stages[self._place.number]
        origin = self._origin(named)
        score, rows = self.score(named)
        means = self.recycled(named, score, rows)
        besides = None if means is None else standing(means, len(score)) >= 0
        chosen = going_on(score, rows, stage.capacity, besides).rows
        chunk = language.chunk_of(stage)
        positions = named["position_ids"][:, origin[chosen]].reshape(language.axes, -1, chunk)
        made = [chosen.reshape(-1, chunk), origin[chosen], positions.permute(1, 0, 2)]
        if self._place.carries:
            made.append(self._carried(score, rows, origin))
        if means is not None:
            number = standing(means, len(score))[chosen]
            made[0] = torch.where(number >= 0, number + self._place.rows, chosen).reshape(-1, chunk)
            made.append(means.weights @ named["states"][: self._place.rows])
        return tuple(made)

    def recycled(self, named: Mapping[str, torch.Tensor], score: torch.Tensor, rows: LanguageRows) -> Recycled | None:
        """What becomes of rows that leave; None where they are gone."""
        if not self._place.language.stages[self._place.number].recycles:
            return None
        return recycled_of(named["states"][: self._place.rows, : self._place.decoder.hidden], score, rows)

    def _carried(self, score: torch.Tensor, rows: LanguageRows, origin: torch.Tensor) -> torch.Tensor:
        """By row of the prompt [P]: the order, or what has been counted; 0 for a row that has left."""
        if self._place.cut.once:
            return score.clone()
        spare = self._place.prompt
        where = torch.where(rows.present, origin, spare)
        return torch.zeros(spare + 1).scatter(0, where, rows["changed"])[:spare]

    def score(self, named: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, LanguageRows]:
        """What the method makes of the rows of the stage before [L], and what it looked at."""
        origin = self._origin(named)
        present = torch.arange(self._place.rows) < named["total"]
        entered = named["visual"] > 0
        visual = entered[origin] & present
        nobody = torch.zeros(0)
        rows = LanguageRows(
            visual=visual,
            present=present,
            count=named["count"][0],
            asking=named.get("asking", nobody.to(torch.int64)),
            weight=named.get("asking_weight", nobody),
            readings=self._readings(named, origin, visual),
            origin=origin,
            entered=entered,
            first=self._place.first,
        )
        if self._place.cut.once and not self._place.first:
            return named["carried"][origin], rows
        return self._place.cut.rank(rows, self._place.settings), rows

    def _origin(self, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Which row of the prompt each row of the stage before is: [L]."""
        return named["origin"] if "origin" in named else torch.arange(self._place.rows)

    def _readings(
        self, named: Mapping[str, torch.Tensor], origin: torch.Tensor, visual: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        width, size = self._place.decoder.head_dim, self._place.rows
        found: dict[str, torch.Tensor] = {}
        if "query" in named:
            found["query"] = named["query"].reshape(size, -1, width)[named["asking"]]
            found["key"] = named["key"][0].permute(1, 0, 2)
        if "value" in named:
            found["value"] = named["value"][0].permute(1, 0, 2)
        if "next_query" in named:
            found["query"] = named["next_query"].reshape(size, -1, width)[named["asking"]]
            found["key"] = named["next_key"].reshape(size, -1, width)
        if "cos" in named:
            cos, sin = named["cos"][0], named["sin"][0]
            asking = named["asking"]
            found["query"] = turned_back(found["query"], cos[asking], sin[asking])
            found["key"] = turned_back(found["key"], cos, sin)
        if "salience" in named:
            found["salience"] = named["salience"][origin]
        if "places" in named:
            found["places"] = named["places"][origin]
        if "embeds" in named:
            found["embeds"] = named["embeds"]
        if "active" in named:
            found["active"] = named["active"]
        if "changed" in named:
            here = summed_changes(named["changed"], visual)
            found["changed"] = here + named["carried"][origin] if "carried" in named else here
        return found
