"""From an ONNX model to a `Program`: functions inlined, constants folded, dead nodes gone, shapes checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.errors import ExportError
from edgeprune_export.onnx.branches import taken
from edgeprune_export.onnx.extract import live_nodes
from edgeprune_export.onnx.folding import KnownValues, known_values
from edgeprune_export.onnx.shapes import inlined
from edgeprune_export.onnx.walk import values_captured
from edgeprune_export.onnx_pruning.declared import framed, stated
from edgeprune_export.onnx_pruning.inputs import KnownShape, fixed_shapes, fixed_values
from edgeprune_export.onnx_pruning.program import Axis, Program
from edgeprune_export.onnx_pruning.targets import with_constant_target


def read(
    model: onnx.ModelProto,
    input_shape: KnownShape | Mapping[str, KnownShape] | None = None,
    input_values: Mapping[str, float] | None = None,
) -> Program:
    """The graph of `model`, whose weights are loaded.

    input_shape: integers for inputs that the model leaves symbolic; input_values: inputs of one element that become constants.
    """
    model = inlined(model)
    graph = model.graph
    if graph.sparse_initializer:
        raise ExportError(f"graph {graph.name!r} has sparse weights, which cannot be sliced; store them dense")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    model = stated(model)
    weights |= fixed_values([value for value in model.graph.input if value.name not in weights], input_values or {})
    inputs = [value for value in model.graph.input if value.name not in weights]
    shapes = fixed_shapes(inputs, input_shape)
    while True:
        once, constants, symbolic = _walked(model, weights, shapes)
        chosen = taken(model, constants)
        if chosen is None:
            break
        model, inside = chosen
        weights |= inside
    graph = model.graph
    nodes = [node for node in graph.node if not all(name in constants for name in node.output if name)]
    nodes = [with_constant_target(node, once, symbolic, constants) for node in nodes]
    outputs = {value.name for value in graph.output}
    alive, constants = unshared(live_nodes(nodes, outputs), constants, outputs)
    values = [*shapes, *(name for node in alive for name in (*node.input, *node.output) if name), *sorted(outputs)]
    computed = {name: once.shape(name) for name in values if name not in constants}
    known = {name: shape for name, shape in computed.items() if shape is not None}
    known |= {name: array.shape for name, array in constants.items()}
    return Program(framed(model, inputs, once, symbolic), alive, known, constants, symbolic)


def _walked(
    model: onnx.ModelProto, weights: Mapping[str, np.ndarray], shapes: Mapping[str, KnownShape]
) -> tuple[KnownValues, dict[str, np.ndarray], frozenset[Axis]]:
    """What is known with a batch of one, what of it holds for every batch, and the axes that do depend on the batch."""
    once = known_values(model, weights, {name: _with_batch(shape, 1) for name, shape in shapes.items()})
    twice = once
    if any(shape[:1] == (None,) for shape in shapes.values()):
        twice = known_values(model, weights, {name: _with_batch(shape, 2) for name, shape in shapes.items()})
    symbolic = frozenset(
        Axis(name, i)
        for name in once.types
        for i, (one, two) in enumerate(zip(once.shape(name) or (), twice.shape(name) or (), strict=False))
        if one != two
    )
    return once, {n: a for n, a in once.constants.items() if _equal(a, twice.constants.get(n))}, symbolic


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


def _with_batch(shape: Sequence[int | None], batch: int) -> tuple[int, ...]:
    return tuple(batch if size is None else size for size in shape)


def _equal(one: np.ndarray, other: np.ndarray | None) -> bool:
    return one is other or (other is not None and one.dtype == other.dtype and np.array_equal(one, other))
