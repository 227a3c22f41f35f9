"""Rows of a tower that become fewer from block to block, as nodes.

How many stay after each cut is known at export, so every shape is an integer. Blocks are those of the plain tower, over the rows that are left;
what leaves depends on the tile: the steps of a method are its own torch code (`edgeprune.tokens.inside.tower`), traced once per shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx
import torch
from torch import Tensor

from edgeprune.models.spec import TowerSpec
from edgeprune.tokens.inside.tower.method import Step
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut
from edgeprune_export.graphs.tower import attended, attention, fed_forward, queries_keys_values, rotary_tables
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.trace import trace
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import TensorSpec

QKV = tuple[str, str, str]


class Part(NamedTuple):
    """A value of the graph that is one part of the rows."""

    value: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class CutRows:
    """The rows of one tile in a graph under construction; `parts` by their names in `Rows`."""

    def __init__(
        self, g: Graph, writer: WeightsWriter, spec: TowerSpec, cuts: TowerCuts, parts: Mapping[str, Part]
    ) -> None:
        self._g, self._writer, self._spec, self._cuts = g, writer, spec, cuts
        self.parts = dict(parts)
        self._turning: tuple[str, list[str]] = ("", [])
        if cuts.method.start is not None:
            self._run(cuts.method.start, "start", self._cuts.anywhere, None, 1)

    @property
    def x(self) -> str:
        return self.parts["x"].value

    @property
    def count(self) -> int:
        return self.parts["x"].shape[0]

    def block(self, i: int) -> None:
        """Block i over all rows."""
        self.behind(i, self.before(i))

    def before(self, i: int) -> QKV:
        """Queries, keys and values of block i, behind what leaves before it."""
        if self._cuts.method.site == "before" and self._cuts.at(i) is not None:
            self._cut(i, "before", self._qkv(i) if self._cuts.method.looks else None)
        return self._qkv(i)

    def behind(self, i: int, qkv: QKV, *, watched: bool = True) -> None:
        """The rest of block i."""
        rows = self.count
        self.put("x", attended(self._g, self._writer, self._at(i), f"tower.{i}", self.x, self._mixed(i, qkv), rows))
        self._cut(i, "between", qkv)
        self.put("x", fed_forward(self._g, self._writer, self._at(i), f"tower.{i}", self.x, self.count))
        if self._cuts.method.watch is not None and watched:
            self._run(self._cuts.method.watch, f"watch_{i}", self._cuts.anywhere, qkv, self._at(i).heads)
        self._cut(i, "after", qkv)

    def finish(self) -> None:
        """Features of all places again, where the method has a way back."""
        if self._cuts.method.finish is not None:
            self._run(self._cuts.method.finish, "finish", self._cuts.anywhere, None, 1)

    def bias(self, asking: int) -> str | None:
        """[1, 1, asking, n]: the log of each row's size, where sizes are carried."""
        if "size" not in self.parts:
            return None
        size, n = self.parts["size"].value, self.count
        row = self._g.node("Reshape", [self._g.node("Log", [size]), self._g.integers(1, 1, 1, n)])
        return self._g.node("Expand", [row, self._g.integers(1, 1, asking, n)])

    def put(self, name: str, value: str) -> None:
        self.parts[name] = self.parts[name]._replace(value=value)

    def _at(self, i: int) -> TowerSpec:
        return self._spec.at(i)

    def _qkv(self, i: int) -> QKV:
        return queries_keys_values(self._g, self._writer, self._at(i), f"tower.{i}", self.x, self.count, self._tables())

    def _tables(self) -> list[str] | None:
        """Rotary tables of the rows that are there; None: the tower turns nothing."""
        if self._spec.rotary is None:
            return None
        place = self.parts["place"].value
        if self._turning[0] != place:
            whole = rotary_tables(self._g, self._writer, self._spec)
            self._turning = place, [self._g.node("Gather", [table, place], axis=1) for table in whole]
        return self._turning[1]

    def _mixed(self, i: int, qkv: QKV) -> str:
        """What the heads of block i read [n, H * d]."""
        rows, at = self.count, self._at(i)
        own = self.parts.pop("attention", None)
        if own is None:
            return attention(self._g, at, qkv, rows, rows, self.bias(rows))
        apart = self._g.node("Reshape", [qkv[2], self._g.integers(rows, at.heads, at.head_dim)])
        values = self._g.node("Transpose", [apart], perm=[1, 0, 2])
        mixed = self._g.node("Transpose", [self._g.node("MatMul", [own.value, values])], perm=[1, 0, 2])
        return self._g.node("Reshape", [mixed, self._g.integers(rows, at.inner)])

    def _cut(self, i: int, site: str, qkv: QKV | None) -> None:
        cut = self._cuts.at(i)
        if cut is not None and site == self._cuts.method.site:
            self._run(self._cuts.method.step, f"cut_{i}", cut, qkv, self._at(i).heads)

    def _run(self, step: Step, name: str, cut: TowerCut, qkv: QKV | None, heads: int) -> None:
        given = self.parts
        if qkv is not None:
            shape = (self.count, heads * self._spec.head_dim)
            given = given | {part: Part(value, shape) for part, value in zip("qkv", qkv, strict=True)}
        inputs = tuple(TensorSpec(part, one.dtype, one.shape) for part, one in given.items())
        traced = _traced(step, cut, tuple(sorted(cut.settings.items())), heads, inputs)
        model = onnx.ModelProto()
        model.CopyFrom(traced.model)
        model.graph.name = name
        renames = {part: one.value for part, one in given.items()}
        made = {spec.name: Part(f"{name}.{spec.name}", spec.shape, spec.dtype) for spec in traced.made}
        self._g.splice(model, renames | {f"{part}_out": one.value for part, one in made.items()})
        stay = {part: one for part, one in self.parts.items() if part in traced.kept}
        self.parts = stay | made


class _Traced(NamedTuple):
    """A step as a graph; made: what it puts out, without _out; kept: parts that it hands on as they are."""

    model: onnx.ModelProto
    made: tuple[TensorSpec, ...]
    kept: frozenset[str]


class _StepModule(torch.nn.Module):
    """A step as a module over plain tensors, the form that torch.onnx traces."""

    def __init__(self, step: Step, cut: TowerCut, heads: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self._step, self._cut, self._heads, self._names = step, cut, heads, names

    def parts(self, *inputs: Tensor) -> tuple[dict[str, Tensor], frozenset[str]]:
        """(what is new, names of what is handed on as it is)."""
        given = dict(zip(self._names, inputs, strict=True))
        q, k, v = (given.pop(part, inputs[0]) for part in "qkv")
        rows = Rows(**given)
        bias = None if rows.size is None else torch.log(rows.size)
        found = self._step(rows, BlockRows(q, k, v, self._heads, bias), self._cut)._asdict()
        there = {name: part for name, part in found.items() if part is not None}
        kept = frozenset(name for name, part in there.items() if part is given.get(name))
        return {name: part for name, part in there.items() if name not in kept}, kept

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.parts(*inputs)[0].values())


_KNOWN: dict[tuple[object, ...], _Traced] = {}


def _traced(
    step: Step, cut: TowerCut, settings: tuple[tuple[str, float], ...], heads: int, inputs: tuple[TensorSpec, ...]
) -> _Traced:
    """Tracing takes seconds: each shape is traced once in a process."""
    shapes = tuple((spec.name, spec.dtype, spec.shape) for spec in inputs)
    key = (step, tuple(value for name, value in cut._asdict().items() if name != "settings"), settings, heads, shapes)
    if key not in _KNOWN:
        module = _StepModule(step, cut._replace(settings=dict(settings)), heads, tuple(spec.name for spec in inputs))
        with torch.no_grad():
            new, kept = module.parts(*(torch.ones(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs))
        made = tuple(
            TensorSpec(name, str(part.dtype).removeprefix("torch."), tuple(part.shape)) for name, part in new.items()
        )
        model = trace("step", module, inputs, tuple(f"{spec.name}_out" for spec in made))
        _KNOWN[key] = _Traced(model, made, kept)
    return _KNOWN[key]
