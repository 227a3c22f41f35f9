"""Lower a bundle's graph to what an engine builder takes: standard operators only, precision written into the graph.

A bundle's graphs use ONNX Runtime's contributed operators in float32 (or int8). Each of these has one rule per dialect (`rules/dialect.py`);
every other node is kept. Matrix products and attention run in `kind` (float16, bfloat16 or float32), everything between them stays in
float32: residual streams, norms and the methods' arithmetic cost little and overflow in half precision. Weights are converted once into a
weights file of their own that all lowered graphs share. The number of new positions may be symbolic (`dynamic_rows.py`), so rules never use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from edgeprune.errors import ExportError
from edgeprune_export.onnx.nodes import Nodes
from edgeprune_export.onnx.quantized import dequantized_blocks
from edgeprune_export.onnx.shapes import Dim, dims, element, inferred, named_values
from edgeprune_export.onnx.walk import all_nodes, values_read
from edgeprune_export.onnx.weights import Stored, WeightsWriter

NodeKind = Literal["float16", "bfloat16", "float32"]
LoweringRule = Callable[["Lowering", onnx.NodeProto], None]
ELEMENT = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
}
#: The largest finite number that is subtracted from masked scores: float16's own, so that it is the same in every kind.
MASKED = -65504.0
_ROWS_BYTES = 16 << 20


@dataclass(frozen=True)
class Dialect:
    """Operators that a family of builders takes: an opset, and the rules that lead there. Operators without a rule are kept.

    domains: of contributed operators that may stay.
    """

    name: str
    opset: int
    ir_version: int
    rules: Mapping[tuple[str, str], LoweringRule]
    domains: tuple[str, ...] = ()


class LoweredWeights:
    """The bundle's weights file, read a block of rows at a time, and the lowered graphs' own, in which a tensor is written once per kind."""

    def __init__(self, source: Path, writer: WeightsWriter, file: str) -> None:
        self.file = file
        self._source, self._writer = source, writer

    def converted(self, tensor: onnx.TensorProto, kind: str) -> Stored:
        """The stored tensor in `kind`."""
        name = f"{tensor.name}.{kind}"
        return (
            self._writer[name]
            if name in self._writer
            else self._writer.add(name, self._blocks(tensor, kind), _numpy(kind))
        )

    def signed(self, tensor: onnx.TensorProto) -> Stored:
        """Weights of 4 bits [out, blocks, bytes] as ONNX's INT4 has them: two's complement in place of integers plus 8."""
        name = f"{tensor.name}.int4"
        if name not in self._writer:
            self._writer.add(name, (block ^ 0x88 for block in self._blocks(tensor, "uint8")), "uint8")
        return self._writer[name]

    def expanded(self, tensor: onnx.TensorProto, scale: onnx.TensorProto, inputs: int, kind: str) -> Stored:
        """Weights of 4 bits as numbers [out, inputs] in `kind`, for builders that take none of 4 bits."""
        name = f"{tensor.name}.{kind}"
        if name not in self._writer:
            packed, scales = self._mapped(tensor), self._mapped(scale)
            step = max(1, _ROWS_BYTES // (4 * inputs))
            blocks = (
                _checked(dequantized_blocks(packed[i : i + step], scales[i : i + step], inputs), kind, tensor.name)
                for i in range(0, len(packed), step)
            )
            self._writer.add(name, blocks, _numpy(kind))
        return self._writer[name]

    def _blocks(self, tensor: onnx.TensorProto, kind: str) -> Iterator[np.ndarray]:
        rows = self._mapped(tensor)
        step = max(1, _ROWS_BYTES // max(1, rows.nbytes // max(1, len(rows))))
        for start in range(0, len(rows), step):
            block = np.asarray(rows[start : start + step])
            yield block if np.dtype(_numpy(kind)) == block.dtype else _checked(block, kind, tensor.name)

    def _mapped(self, tensor: onnx.TensorProto) -> np.ndarray:
        place = {entry.key: entry.value for entry in tensor.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.memmap(self._source, dtype, "r", int(place.get("offset", 0)), tuple(tensor.dims))


class Lowering(Nodes):
    """One graph on its way into a dialect; rules append nodes and keep the names of the source's values."""

    def __init__(self, source: onnx.ModelProto, dialect: Dialect, kind: NodeKind, weights: LoweredWeights) -> None:
        super().__init__("lowered.")
        self.kind: NodeKind = kind
        self._dialect, self._weights = dialect, weights
        self.name = source.graph.name
        self._stored = {t.name: t for t in source.graph.initializer if t.data_location == TensorProto.EXTERNAL}
        self._small = {t.name: t for t in source.graph.initializer if t.name not in self._stored}
        self._inputs = {value.name: value for value in source.graph.input}
        self._outputs = {value.name: value for value in source.graph.output}
        self._values = named_values(inferred(source).graph)
        self._made: dict[str, str] = {}
        for node in source.graph.node:
            rule = dialect.rules.get((node.domain, node.op_type))
            if rule is None:
                self.keep(node)
            else:
                rule(self, node)

    def keep(self, node: onnx.NodeProto) -> None:
        """Append a node as it is."""
        for name in node.input:
            if name in self._stored:
                self.stored(name, "float32", name)
        self._nodes.append(node)

    def shape(self, value: str) -> tuple[Dim, ...]:
        """Dimensions of a value of the source; a symbolic one is a string."""
        return dims(self._values[value]) or ()

    def element(self, value: str) -> ir.DataType:
        """The element type of a value of the source; UNDEFINED where it is not known."""
        return element(self._values.get(value))

    def width(self, value: str) -> int:
        """The last dimension, which is never symbolic."""
        last = self.shape(value)[-1]
        if not isinstance(last, int):
            raise ExportError(
                f"graph {self.name}: the last dimension of {value!r} is not known; export the bundle again"
            )
        return last

    def is_stored(self, value: str) -> bool:
        """Whether the value is a tensor of the bundle's weights file."""
        return value in self._stored

    def stored(self, value: str, kind: str, name: str | None = None) -> str:
        """A tensor of the weights file, in `kind`, as an initializer."""
        name = name or f"{value}.{kind}"
        if name not in self._initializers:
            place = self._weights.converted(self._stored[value], kind)
            self._initialise(name, ELEMENT[kind], place.shape, place)
        return name

    def signed_int4(self, value: str) -> str:
        """Stored weights of 4 bits as an INT4 initializer [out, inputs filled up to whole blocks]."""
        name = f"{value}.int4"
        if name not in self._initializers:
            place = self._weights.signed(self._stored[value])
            out, blocks, width = place.shape
            self._initialise(name, TensorProto.INT4, (out, 2 * blocks * width), place)
        return name

    def expanded(self, value: str, scale: str, inputs: int) -> str:
        """Stored weights of 4 bits as an initializer [out, inputs] in the graph's kind."""
        name = f"{value}.{self.kind}"
        if name not in self._initializers:
            place = self._weights.expanded(self._stored[value], self._stored[scale], inputs, self.kind)
            self._initialise(name, ELEMENT[self.kind], place.shape, place)
        return name

    def is_cast_of_stored(self, node: onnx.NodeProto) -> bool:
        """Let the cast's value be the stored tensor itself, which its readers take in the kind that they want; False for another cast."""
        if self.is_stored(node.input[0]):
            self._stored[node.output[0]] = self._stored[node.input[0]]
        return self.is_stored(node.output[0])

    def _initialise(self, name: str, element: int, dims: Sequence[int], place: Stored) -> None:
        tensor = TensorProto(name=name, data_type=element, dims=dims)
        tensor.data_location = TensorProto.EXTERNAL
        for key, entry in (("location", self._weights.file), ("offset", place.offset), ("length", place.nbytes)):
            tensor.external_data.add(key=key, value=str(entry))
        self._initializers[name] = tensor

    def half(self, value: str) -> str:
        """The value in `kind`; cast once."""
        if self.is_stored(value):
            return self.stored(value, self.kind)
        if self.kind == "float32":
            return value
        return self.once(
            f"{value}.{self.kind}", lambda name: self.node("Cast", [value], name=name, to=ELEMENT[self.kind])
        )

    def full(self, value: str, name: str) -> str:
        """A value of `kind` in float32, published under `name`."""
        if self.kind == "float32":
            return self.node("Identity", [value], name=name)
        return self.node("Cast", [value], name=name, to=TensorProto.FLOAT)

    def scalar(self, number: float, kind: str) -> str:
        """A constant of rank 0."""
        array = np.asarray(number, np.float32).astype(_numpy(kind))
        return self.constant(f"{kind}_{number:.9g}", array)

    def once(self, name: str, make: Callable[[str], str]) -> str:
        """What `make` appends under this name, the first time; what several layers share is computed once."""
        if name not in self._made:
            self._made[name] = make(name)
        return self._made[name]

    def cast_io(self, name: str) -> str:
        """Let an input or output of the source have `kind` instead of float32."""
        for values in (self._inputs, self._outputs):
            if name in values:
                values[name].type.tensor_type.elem_type = ELEMENT[self.kind]
        return name

    def replace_output(self, old: str, new: str, dims: tuple[Dim, ...]) -> str:
        """Publish `new`, of `kind` and `dims`, in place of the output `old`."""
        info = helper.make_tensor_value_info(new, ELEMENT[self.kind], list(dims))
        self._outputs = {
            (new if name == old else name): (info if name == old else v) for name, v in self._outputs.items()
        }
        return new

    def model(self) -> onnx.ModelProto:
        """The finished model; inputs that no node reads any more are left out."""
        read = values_read(self._nodes)
        small = [tensor for name, tensor in self._small.items() if name in read]
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [value for name, value in self._inputs.items() if name in read],
            list(self._outputs.values()),
            [*(t for t in small if t.name not in self._initializers), *self._initializers.values()],
        )
        opsets = [
            helper.make_opsetid("", self._dialect.opset),
            *(helper.make_opsetid(d, 1) for d in self._dialect.domains),
        ]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=self._dialect.ir_version, producer_name="edgeprune"
        )
        _check(model, self._dialect)
        return model


def lower(source: onnx.ModelProto, dialect: Dialect, kind: NodeKind, weights: LoweredWeights) -> onnx.ModelProto:
    """The graph in `dialect` and `kind`. Raises ExportError for what has no place in it."""
    return Lowering(source, dialect, kind, weights).model()


def _check(model: onnx.ModelProto, dialect: Dialect) -> None:
    """Every node must be an operator of the dialect's opset: newer ones need a rule."""
    for node in all_nodes(model.graph):
        if node.domain in dialect.domains:
            continue
        try:
            onnx.defs.get_schema(node.op_type, dialect.opset, node.domain)
        except onnx.defs.SchemaError as error:
            raise ExportError(
                f"graph {model.graph.name}: node {node.name!r} ({node.domain or 'ai.onnx'}.{node.op_type}) is not part of opset "
                f"{dialect.opset}, which the dialect {dialect.name} is written in; give it a rule in edgeprune_export.engines"
            ) from error


def _checked(block: np.ndarray, kind: str, name: str) -> np.ndarray:
    """The block in `kind`; a weight too large for it would silently become infinite."""
    with np.errstate(over="ignore"):
        converted = block.astype(_numpy(kind))
    if not np.isfinite(converted.astype(np.float32)).all() and np.isfinite(block).all():
        raise ExportError(
            f"{name} has a weight of {np.abs(block).max():g}, too large for {kind}; build with --compute bf16"
        )
    return converted


def _numpy(kind: str) -> np.dtype[Any]:
    if kind == "bfloat16":
        import ml_dtypes

        half: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return half
    return np.dtype(kind)
