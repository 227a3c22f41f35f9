"""Branches that are always taken: an If whose condition is known becomes the nodes of its branch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune_export.onnx.walk import all_nodes, attribute, bodies, graphs, renamed, value_names


def taken(
    model: onnx.ModelProto, known: Mapping[str, np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]] | None:
    """The model with the branches that `known` conditions choose, and weights that stood inside them; None where no If is decided.

    Names inside a branch that occur elsewhere too, in the other branch most of all, are made new. What a branch decides in its turn is
    left to the next call, which knows more.
    """
    decided = {node.output[0] for node in model.graph.node if node.op_type == "If" and node.input[0] in known}
    if not decided:
        return None
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights: dict[str, np.ndarray] = {}
    elsewhere = _used(model.graph, decided)
    del result.graph.node[:]
    for node in model.graph.node:
        if node.op_type != "If" or node.output[0] not in decided:
            result.graph.node.append(node)
            continue
        branch = attribute(node, "then_branch" if known[node.input[0]].item() else "else_branch")
        names = _fresh(branch, elsewhere)
        elsewhere.update(names.values())
        result.graph.value_info.extend(_renamed(value, names) for value in branch.value_info)
        for tensor in branch.initializer:
            weights[names[tensor.name]] = numpy_helper.to_array(tensor)
        result.graph.node.extend(renamed(inner, names) for inner in branch.node)
        for value, outside in zip(branch.output, node.output, strict=True):
            result.graph.node.append(helper.make_node("Identity", [names.get(value.name, value.name)], [outside]))
    return result, weights


def weights_inside(node: onnx.NodeProto) -> int:
    """Elements of the floating-point tensors that stand in the bodies of a node of control flow."""
    inside = [body for outer in bodies(node) for body in graphs(outer)]
    constants = [attribute(inner, "value") for body in inside for inner in body.node if inner.op_type == "Constant"]
    tensors = [*(tensor for body in inside for tensor in body.initializer), *(t for t in constants if t is not None)]
    return sum(
        int(np.prod(t.dims)) for t in tensors if t.dims and helper.tensor_dtype_to_np_dtype(t.data_type).kind in "fV"
    )


def _used(graph: onnx.GraphProto, decided: Collection[str]) -> set[str]:
    """Values of the graph outside the branches that are decided; these add theirs one by one."""
    rest = onnx.GraphProto(input=graph.input, output=graph.output, initializer=graph.initializer)
    rest.node.extend(node for node in graph.node if node.output[0] not in decided)
    outside = {name for node in graph.node for name in (*node.input, *node.output) if name}
    return value_names(rest) | outside


def _fresh(branch: onnx.GraphProto, elsewhere: set[str]) -> dict[str, str]:
    """A name that nobody else has for every value the branch makes; what it only reads from outside keeps its own."""
    made = {name for node in all_nodes(branch) for name in node.output if name}
    made |= {tensor.name for body in graphs(branch) for tensor in body.initializer}
    made |= {value.name for body in graphs(branch) for value in body.input}
    names: dict[str, str] = {}
    for name in sorted(made):
        fresh = name
        while fresh in elsewhere or fresh in names.values() or (fresh != name and fresh in made):
            fresh += "_"
        names[name] = fresh
    return names


def _renamed(value: onnx.ValueInfoProto, names: Mapping[str, str]) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = names.get(value.name, value.name)
    return copy
