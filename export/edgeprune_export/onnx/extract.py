"""The part of a graph on which some of its values depend."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx

from edgeprune_export.onnx.walk import values_read


def live_nodes(nodes: Iterable[onnx.NodeProto], outputs: Collection[str]) -> tuple[onnx.NodeProto, ...]:
    """Nodes, in order, on whose results the outputs depend."""
    wanted = set(outputs)
    kept = []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted |= values_read([node])
    return tuple(reversed(kept))


def ending_in(model: onnx.ModelProto, outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """The part of the model that makes these values, which are its outputs then; what it does not read is left out."""
    nodes = live_nodes(model.graph.node, {value.name for value in outputs})
    read = values_read(nodes)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    del graph.node[:], graph.output[:], graph.input[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.output.extend(outputs)
    graph.input.extend(value for value in model.graph.input if value.name in read)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    return part


def ancestors(nodes: Iterable[onnx.NodeProto], places: Collection[str]) -> dict[str, set[str]]:
    """For each of `places`, those among them that it is computed from."""
    wanted = set(places)
    above: dict[str, set[str]] = {}
    for node in nodes:
        own = set().union(*(above.get(name, set()) | ({name} & wanted) for name in values_read([node])))
        above.update(dict.fromkeys(node.output, own))
    return {name: above[name] for name in places}
