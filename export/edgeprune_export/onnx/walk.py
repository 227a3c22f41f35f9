"""Walk an ONNX graph as it is stored: what a node says and reads, and the graphs inside nodes of control flow.

Whoever writes or rewrites nodes keeps them as they came and walks them with this; whoever only reads types and shapes takes
`shapes.inferred`, whose values know where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from onnx import helper


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    entry = next((a for a in node.attribute if a.name == name), None)
    return default if entry is None else helper.get_attribute_value(entry)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes by name, as Python values."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node of control flow."""
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g
        yield from entry.graphs


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that are inside it, at any depth."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of all graphs inside it."""
    return (node for one in graphs(graph) for node in one.node)


def values_read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names that these nodes read, inside their bodies too."""
    return {name for node in nodes for name in node.input if name} | values_captured(nodes)


def values_captured(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names that the bodies of these nodes read; their own values are among them."""
    inside = (inner for node in nodes for body in bodies(node) for inner in all_nodes(body))
    return {name for node in inside for name in node.input if name}


def value_names(graph: onnx.GraphProto) -> set[str]:
    """All values of a graph and of the graphs inside it."""
    names: set[str] = set()
    for one in graphs(graph):
        names.update(value.name for value in (*one.initializer, *one.input, *one.output))
        names.update(name for node in one.node for name in (*node.input, *node.output) if name)
    return names


def renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of the node with its values renamed, those inside its bodies too."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    for body in bodies(copy):
        inner = [renamed(one, names) for one in body.node]
        del body.node[:]
        body.node.extend(inner)
        for value in (*body.input, *body.output, *body.value_info, *body.initializer):
            value.name = names.get(value.name, value.name)
    return copy
