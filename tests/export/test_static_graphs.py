"""Every dimension of every graph is an integer, and all graphs share one weights file."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprune_export.commands.export import export
from edgeprune_export.graphs.linear import linear, store_linear
from edgeprune_export.onnx.graph import CONTRIB, Graph
from edgeprune_export.onnx.quantized import quantize_rows
from edgeprune_export.onnx.static import check_static
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime import Bundle
from edgeprune_runtime.bundle import sha256_of
from edgeprune_runtime.errors import ExportError
from tests.checkpoints import tiny_checkpoint
from tests.exports import every_method, exported, options


def graphs(bundle: Path) -> dict[str, onnx.ModelProto]:
    return {path.stem: onnx.load(path, load_external_data=False) for path in sorted(bundle.glob("*.onnx"))}


def test_every_value_of_every_graph_has_integer_dimensions(tiny_bundle: Path) -> None:
    for model in graphs(tiny_bundle).values():
        check_static(model)
        for value in (*model.graph.input, *model.graph.output):
            assert all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)


def test_the_manifest_describes_the_graphs(tiny_bundle: Path) -> None:
    manifest, found = Bundle.open(tiny_bundle, verify=False).manifest, graphs(tiny_bundle)
    assert {graph.name for graph in manifest.graphs} == set(found)
    for graph in manifest.graphs:
        for specs, values in (
            (graph.inputs, found[graph.name].graph.input),
            (graph.outputs, found[graph.name].graph.output),
        ):
            assert [spec.name for spec in specs] == [value.name for value in values]
            for spec, value in zip(specs, values, strict=True):
                kind = value.type.tensor_type
                assert spec.shape == tuple(dim.dim_value for dim in kind.shape.dim)
                assert np.dtype(spec.dtype) == helper.tensor_dtype_to_np_dtype(kind.elem_type)


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str | None]], output: list[int | str | None]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid(CONTRIB, 1)])


def test_a_symbolic_input_fails() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ["batch", 4]}, ["batch", 4])
    with pytest.raises(ExportError, match="symbolic dimension 'batch' at axis 0"):
        check_static(model)


def test_an_unknown_dimension_fails() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [3, None]}, [3, None])
    with pytest.raises(ExportError, match="unknown"):
        check_static(model)


def test_a_dimension_that_depends_on_data_inside_the_graph_fails() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["y"], keepdims=0),
    ]
    with pytest.raises(ExportError, match="where"):
        check_static(model_of(nodes, {"x": [3, 4]}, []))


def test_a_vendor_operator_without_a_declared_shape_fails(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("QuickGelu", ["x"], ["h"], domain=CONTRIB), helper.make_node("Relu", ["h"], ["y"])],
        {"x": [3, 4]},
        [3, 4],
    )
    with pytest.raises(ExportError, match="'h' cannot be inferred"):
        check_static(model)
    g = Graph("small", weights_file="weights.bin")
    g.node("QuickGelu", [g.input("x", "float32", (3, 4))], domain=CONTRIB)
    with pytest.raises(ExportError, match="cannot be inferred"):
        g.model()


def test_a_method_with_data_dependent_shapes_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune_export.bundle import write as module

    def select_graph(name: str, *rest: object, **more: object) -> Graph:
        g = Graph(name, weights_file="weights.bin")
        g.output(g.node("NonZero", [g.input("slot", "float32", (3, 4))]), "kept", "int64", (2, 5))
        return g

    monkeypatch.setattr(module, "select_graph", select_graph)
    with pytest.raises(ExportError, match="symbolic dimension|cannot be inferred"):
        export(tiny_checkpoint(), tmp_path / "bundle", options(("40",), parity=False))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- one weights file


def test_weights_live_in_one_file_and_are_stored_once(tiny_bundle: Path) -> None:
    places: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for name, model in graphs(tiny_bundle).items():
        inside = 0
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                assert entries["location"] == "weights.bin"
                places[tensor.name].add((int(entries["offset"]), int(entries["length"])))
            else:
                inside += len(tensor.SerializeToString())
        assert inside < 80_000, f"{name} holds {inside} bytes of its own"
    assert all(len(found) == 1 for found in places.values()), "one name, one place"
    spans = sorted(next(iter(found)) for found in places.values())
    assert all(start % 4096 == 0 for start, _ in spans)
    assert all(a + size <= b for (a, size), (b, _) in zip(spans, spans[1:], strict=False)), "nothing overlaps"
    assert spans[-1][0] + spans[-1][1] <= (tiny_bundle / "weights.bin").stat().st_size


def test_four_budgets_take_hardly_more_disk_than_one() -> None:
    """With 16 MB of weights; a select graph is some ten kilobytes whatever the size of the model."""
    variant = {"vocab": 60_000, "tied": True}
    one, four = (
        exported(variant, budgets=budgets, parity=False, capacity=256, plan={"method": "hired"})
        for budgets in (["0.2"], ["0.2", "0.5", "40", "0.1"])
    )
    assert sha256_of(one / "weights.bin") == sha256_of(four / "weights.bin"), "weights do not depend on budgets"
    small, large = (sum(path.stat().st_size for path in bundle.iterdir()) for bundle in (one, four))
    assert small > 15_000_000
    assert large <= 1.05 * small


def test_int8_rows_are_symmetric_and_close() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    weight[2] = 0
    rows, scale = quantize_rows(weight)
    assert rows.dtype == np.int8 and scale.dtype == np.float32
    assert np.abs(rows).max(axis=1).tolist() == [63, 63, 0, 63, 63, 63]
    assert (np.abs(rows * scale[:, None] - weight) <= 0.5001 * scale[:, None]).all()


def test_int8_products_are_exact_on_processors_that_add_pairs_in_16_bits() -> None:
    """vpmaddubsw: unsigned activations up to 255, signed weights, two products to a sum."""
    rows, _ = quantize_rows(np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32))
    assert 2 * 255 * int(np.abs(rows).max()) <= np.iinfo(np.int16).max


def test_an_int8_layer_saturates_nowhere(tmp_path: Path) -> None:
    """Inputs of one sign against weights of one size: the worst that pairs of products can sum up to."""
    import onnxruntime as ort

    weight = np.full((4, 64), 0.5, np.float32)
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        store_linear(writer, "one", lambda name: iter([weight]), ["one"], bias=False, precision="int8")
    g = Graph("one", weights_file="weights.bin")
    x = g.input("x", "float32", (2, 64))
    g.output(linear(g, writer, "one", x, 2), "y", "float32", (2, 4))
    onnx.save(g.model(), tmp_path / "one.onnx")
    given = np.full((2, 64), 3.0, np.float32)
    (found,) = ort.InferenceSession(tmp_path / "one.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": given})
    assert np.allclose(found, given @ weight.T, rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_joint_layer_is_its_parts_side_by_side(precision: str, tmp_path: Path) -> None:
    import onnxruntime as ort

    rng = np.random.default_rng(1)
    parts = {name: (rng.normal(size=(out, 16)), rng.normal(size=out)) for name, out in (("q", 8), ("k", 4), ("v", 4))}
    arrays = {
        f"{n}.{kind}": a.astype(np.float32)
        for n, pair in parts.items()
        for kind, a in zip(("weight", "bias"), pair, strict=True)
    }
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        store_linear(writer, "qkv", lambda name: [arrays[name]], list(parts), bias=True, precision=precision)  # type: ignore[arg-type]
    g = Graph("joint", weights_file="weights.bin")
    g.output(linear(g, writer, "qkv", g.input("x", "float32", (3, 16)), 3), "y", "float32", (3, 16))
    onnx.save(g.model(), tmp_path / "joint.onnx")
    x = rng.normal(size=(3, 16)).astype(np.float32)
    (y,) = ort.InferenceSession(tmp_path / "joint.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    expected = np.concatenate([x @ arrays[f"{n}.weight"].T + arrays[f"{n}.bias"] for n in parts], axis=1)
    np.testing.assert_allclose(y, expected, atol={"fp32": 1e-5, "int8": 0.2, "int4": 2.0}[precision])


def test_no_graph_tells_where_it_was_made() -> None:
    """torch's exporter notes the source line of every node, with its path."""
    bundle = every_method()
    for path in bundle.glob("*.onnx"):
        content = path.read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in content, path.name
        assert b"site-packages" not in content, path.name
