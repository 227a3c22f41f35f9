"""Which tensor of an engine is the first to go astray: engines that end in ever other tensors of the same graph.

Each trial halves what is left: a tensor that is right clears all that it is computed from, one that is wrong leaves only that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto

from edgeprune_export.engines.builder import Job, build_engine, capabilities_for
from edgeprune_export.engines.choices import BuildFlags
from edgeprune_export.engines.dynamic_rows import static
from edgeprune_export.engines.lower import LoweredWeights, NodeKind, lower
from edgeprune_export.engines.prepare import KINDS, LANGUAGE, source_model
from edgeprune_export.engines.rules.dialect import DIALECTS
from edgeprune_export.gate.checks import relative, typical
from edgeprune_export.onnx.extract import ancestors, ending_in, live_nodes
from edgeprune_export.onnx.shapes import element, inferred, named_values
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.engines.spec import EngineSet
from edgeprune_runtime.errors import EdgepruneError
from edgeprune_runtime.spec import GraphSpec, TensorSpec

_NAMES = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64", TensorProto.INT32: "int32"}
_NAMES |= {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.BOOL: "bool"}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def first_astray(
    bundle: Bundle,
    device: TensorRtBackend,
    engines: EngineSet,
    engine: str,
    inputs: Mapping[str, np.ndarray],
    limit: float,
) -> str | None:
    """A sentence that names the first tensor whose difference passes `limit`, or why none could be found; None where the engine agrees."""
    try:
        with tempfile.TemporaryDirectory(prefix="edgeprune-bisect-") as folder:
            return _search(bundle, device, engines, engine, inputs, limit, Path(folder))
    except EdgepruneError as error:
        return f"The search for the tensor ended early ({error})"


def _search(
    bundle: Bundle,
    device: TensorRtBackend,
    engines: EngineSet,
    engine: str,
    inputs: Mapping[str, np.ndarray],
    limit: float,
    folder: Path,
) -> str | None:
    rows = len(inputs["embeds"]) if engine.startswith(LANGUAGE) else 0
    mine = _fixed(_lowered(bundle, engines, engine, KINDS[engines.key.precision], folder), rows)
    exact = _fixed(_lowered(bundle, engines, engine, "float32", folder), rows)
    feed = _inputs(mine, inputs, rows)
    places = [name for name in _tensors(mine) if name in set(_tensors(exact))]
    expected = _on_host(exact, places, feed, folder)
    places = [name for name in places if np.isfinite(expected[name]).all() and typical(expected[name]) > 0]
    probe = _Probe(device, engines, mine, feed, folder)
    tried: dict[str, float] = {}

    def astray(name: str) -> bool:
        tried[name] = relative(probe.tensor(name).astype(np.float32), expected[name], typical)
        return not tried[name] <= limit

    above = ancestors(mine.graph.node, places)
    outputs = [value.name for value in mine.graph.output if value.name in above]
    worst = next((name for name in outputs if astray(name)), None)
    if worst is None:
        return None
    fine: set[str] = set()
    while open_ := [name for name in places if name in above[worst] - fine]:
        middle = open_[len(open_) // 2]
        if astray(middle):
            worst = middle
        else:
            fine |= {middle, *above[middle]}
    made_by = next(node for node in mine.graph.node if worst in node.output)
    return f"The first tensor to go astray is {worst!r} ({made_by.op_type}) of {engine}, by {tried[worst]:.3g}"


class _Probe:
    """Builds an engine that ends in a tensor, and runs it."""

    def __init__(
        self,
        device: TensorRtBackend,
        engines: EngineSet,
        model: onnx.ModelProto,
        inputs: Mapping[str, np.ndarray],
        folder: Path,
    ) -> None:
        self._device, self._engines, self._model, self._inputs, self._folder = device, engines, model, inputs, folder
        self._trt = tensorrt_api.load(engines.key.runtime)
        self._count = 0

    def tensor(self, name: str) -> np.ndarray:
        self._count += 1
        label = f"probe-{self._count}"
        model, path = _ending_in(self._model, name), self._folder / f"{label}.onnx"
        onnx.save(model, path)
        engine, flags = path.with_suffix(".engine"), BuildFlags("low_memory" in self._engines.key.flags)
        job = Job(path, engine, capabilities_for(self._trt, self._engines.key), flags=flags)
        build_engine(self._trt, job, lambda: None)
        graph = GraphSpec(label, path.name, _specs(model.graph.input), _specs(model.graph.output), 0)
        session = self._device.session(engine, graph)
        buffers = {
            spec.name: self._device.zeros(spec.shape, session.dtype(spec.name))
            for spec in (*graph.inputs, *graph.outputs)
        }
        for present, past in _updated_in_place(model.graph.node).items():
            buffers[present] = buffers[past]
        session.bind(buffers)
        for spec in graph.inputs:
            if spec.name in self._inputs:
                self._device.write(buffers[spec.name], self._inputs[spec.name])
        session.run()
        result: np.ndarray = self._device.read(buffers[name]).copy()
        return result


def _lowered(bundle: Bundle, engines: EngineSet, engine: str, kind: NodeKind, folder: Path) -> onnx.ModelProto:
    """The engine's graph in `kind`, its weights beside it."""
    file = f"{kind}.bin"
    with WeightsWriter(folder / file) as writer:
        weights = LoweredWeights(bundle.path(bundle.manifest.weights_file), writer, file)
        return lower(source_model(bundle, engine), DIALECTS[engines.key.dialect], kind, weights)


def _fixed(model: onnx.ModelProto, rows: int) -> onnx.ModelProto:
    return static(model, rows) if rows else model


def _inputs(model: onnx.ModelProto, given: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Values for all inputs: those given; for a language model an empty cache, and the last row asked for."""
    first = {
        "row": np.asarray([rows - 1]),
        "total": np.asarray([rows], np.int32),
        "last_index": np.asarray([rows - 1], np.int32),
    }
    specs = _specs(model.graph.input)
    values = {spec.name: given.get(spec.name, first.get(spec.name, np.zeros(spec.shape))) for spec in specs}
    return {spec.name: np.asarray(values[spec.name]).reshape(spec.shape) for spec in specs}


def _tensors(model: onnx.ModelProto) -> list[str]:
    """Floating-point values in the order in which they are made."""
    graph = inferred(model).graph
    return [str(value.name) for node in graph for value in node.outputs if value.name and element(value) in _FLOATS]


def _ending_in(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The part of the model that makes `name`; caches that it updates on the way stay outputs, as a builder demands."""
    caches = _updated_in_place(live_nodes(model.graph.node, {name}))
    return ending_in(model, _stated(model, dict.fromkeys((name, *caches))))


def _stated(model: onnx.ModelProto, names: Iterable[str]) -> list[onnx.ValueInfoProto]:
    """Values of the model as outputs of their type and shape."""
    values = named_values(inferred(model).graph)
    return [ir.to_proto(values[name]) for name in names]


def _updated_in_place(nodes: Iterable[onnx.NodeProto]) -> dict[str, str]:
    """Written cache -> the input that has the same memory."""
    return {node.output[0]: node.input[0] for node in nodes if node.op_type == "TensorScatter"}


def _on_host(
    model: onnx.ModelProto, names: list[str], inputs: Mapping[str, np.ndarray], folder: Path
) -> dict[str, np.ndarray]:
    """All named tensors of the float32 model, by ONNX Runtime."""
    import onnxruntime

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(_stated(model, names))
    onnx.save(probed, folder / "reference.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / "reference.onnx"), options, providers=["CPUExecutionProvider"])
    types = {spec.name: spec.dtype for spec in _specs(probed.graph.input)}
    feed = {name: inputs[name].astype(types[name]) for name in types}
    return dict(zip(names, session.run(names, feed), strict=True))


def _specs(values: object) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            v.name, _NAMES[v.type.tensor_type.elem_type], tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        )
        for v in values  # type: ignore[attr-defined]
    )
