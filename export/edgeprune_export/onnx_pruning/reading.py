"""From an ONNX model to a `Program`: functions inlined, constants folded, dead nodes gone, shapes checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.onnx.extract import live_nodes
from edgeprune_export.onnx.folding import known_values
from edgeprune_export.onnx.shapes import inlined
from edgeprune_export.onnx.walk import values_captured
from edgeprune_export.onnx_pruning.declared import framed, stated
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.targets import with_constant_target

KnownShape = Sequence[int | None]
"""Lengths of an input; None for a batch that stays symbolic."""


def read(model: onnx.ModelProto, input_shape: KnownShape | Mapping[str, KnownShape] | None = None) -> Program:
    """The graph of `model`, whose weights are loaded. input_shape: integers for inputs that the model leaves symbolic."""
    model = inlined(model)
    graph = model.graph
    if graph.sparse_initializer:
        raise ExportError(f"graph {graph.name!r} has sparse weights, which cannot be sliced; store them dense")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    model = stated(model)
    graph = model.graph
    inputs = [value for value in graph.input if value.name not in weights]
    fixed = _asked(input_shape, [value.name for value in inputs])
    for value in inputs:
        _agree(value, fixed.get(value.name))
    shapes = {value.name: fixed[value.name] if value.name in fixed else _declared(value) for value in inputs}
    once = known_values(model, weights, {name: _with_batch(shape, 1) for name, shape in shapes.items()})
    twice = once
    if any(shape[:1] == (None,) for shape in shapes.values()):
        _one_batch(inputs)
        twice = known_values(model, weights, {name: _with_batch(shape, 2) for name, shape in shapes.items()})
    symbolic = frozenset(
        Axis(name, i)
        for name in once.types
        for i, (one, two) in enumerate(zip(once.shape(name) or (), twice.shape(name) or (), strict=False))
        if one != two
    )
    constants = {n: a for n, a in once.constants.items() if _equal(a, twice.constants.get(n))}
    nodes = [node for node in graph.node if not all(name in constants for name in node.output if name)]
    nodes = [with_constant_target(node, once, symbolic, constants) for node in nodes]
    outputs = {value.name for value in graph.output}
    alive, constants = unshared(live_nodes(nodes, outputs), constants, outputs)
    values = [*shapes, *(name for node in alive for name in (*node.input, *node.output) if name), *sorted(outputs)]
    computed = {name: once.shape(name) for name in values if name not in constants}
    known = {name: shape for name, shape in computed.items() if shape is not None}
    known |= {name: array.shape for name, array in constants.items()}
    return Program(framed(model, inputs, once, symbolic), alive, known, constants, symbolic)


def _agree(value: onnx.ValueInfoProto, shape: KnownShape | None) -> None:
    """Raises PlanError where a shape that is asked for contradicts what the model says itself."""
    own = value.type.tensor_type.shape.dim
    if shape is None or not value.type.tensor_type.HasField("shape"):
        return
    if len(own) != len(shape) or any(
        d.HasField("dim_value") and n is not None and d.dim_value != n for d, n in zip(own, shape, strict=True)
    ):
        has = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in own)
        raise PlanError(
            f"input {value.name!r} has the shape [{has}], asked for were {list(shape)}; give sizes that agree"
        )


def unshared(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, np.ndarray], outputs: set[str]
) -> tuple[tuple[onnx.NodeProto, ...], dict[str, np.ndarray]]:
    """Nodes and the constants they read, with one copy per reader of every constant that has at most one axis longer than one.

    Exporters store equal tensors once: all biases that are zero become one tensor, which would couple layers that have nothing to do
    with each other. A shared matrix is a tied weight and stays one.
    """
    copies: Counter[str] = Counter()
    kept = {name: constants[name] for name in outputs | values_captured(nodes) if name in constants}
    renamed = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name in constants:
                array = constants[name]
                vector = array.ndim > 0 and array.size == max(array.shape)
                fresh = f"{name}_{copies[name]}" if vector and copies[name] else name
                while fresh != name and (fresh in constants or fresh in kept):
                    fresh += "_"
                copies[name] += 1
                copy.input[position] = fresh
                kept[fresh] = array
        renamed.append(copy)
    return tuple(renamed), kept


def _asked(
    given: KnownShape | Mapping[str, KnownShape] | None, names: Sequence[str]
) -> dict[str, tuple[int | None, ...]]:
    """Input shapes that the caller fixes, by input."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise PlanError(
                f"one input shape was given for {len(names)} inputs ({', '.join(names)}); give one for each by name: "
                + " ".join(f"--input-shape {name}=..." for name in names)
            )
        given = {names[0]: given}
    if not set(given) <= set(names) or any((size or 0) < 1 for shape in given.values() for size in shape[1:]):
        raise PlanError(
            f"the input shapes {dict(given)} do not fit; give positive integers, or None for a batch, for inputs out of {', '.join(names)}"
        )
    return {name: tuple(shape) for name, shape in given.items()}


def _declared(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """The shape of a graph input; None for a symbolic batch."""
    dims = [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
    if not value.type.tensor_type.HasField("shape") or None in dims[1:]:
        what = ", ".join(d.dim_param or str(d.dim_value or "?") for d in value.type.tensor_type.shape.dim) or "unknown"
        lengths = [d.dim_value or (224 if i else 1) for i, d in enumerate(value.type.tensor_type.shape.dim)]
        example = ",".join(map(str, lengths)) or "1,3,224,224"
        raise ExportError(
            f"input {value.name!r} has the shape [{what}]; only the first dimension may be symbolic: give integers as "
            f"input_shape, or --input-shape {value.name}={example}"
        )
    return tuple(dims)


def _one_batch(inputs: Iterable[onnx.ValueInfoProto]) -> None:
    """Refuse inputs whose first dimensions are symbols of different names: they cannot all be the batch."""
    names = {v.type.tensor_type.shape.dim[0].dim_param for v in inputs if v.type.tensor_type.shape.dim} - {""}
    if len(names) > 1:
        raise ExportError(f"the inputs have different symbolic dimensions {sorted(names)}; fix them by input_shape")


def _with_batch(shape: Sequence[int | None], batch: int) -> tuple[int, ...]:
    return tuple(batch if size is None else size for size in shape)


def _equal(one: np.ndarray, other: np.ndarray | None) -> bool:
    return one is other or (other is not None and one.dtype == other.dtype and np.array_equal(one, other))
