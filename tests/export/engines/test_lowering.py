"""Lowered graphs say the same as the bundle's own, for every tower, decoder and dialect, and hold standard operators only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from edgeprune.errors import ExportError
from edgeprune_export.engines.dynamic_rows import ROWS, joined, static, symbolic_inputs
from edgeprune_export.engines.lower import Dialect, LoweredWeights, lower
from edgeprune_export.engines.prepare import prepare, source_model, sources
from edgeprune_export.engines.rules.dialect import CONTRIBUTED, DIALECTS, MODERN, PORTABLE
from edgeprune_export.graphs.linear import linear, store_linear
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.quantized import dequantized_blocks, quantize_blocks
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.spec import GraphSpec
from tests.exports import CHUNK, GATED, QWEN_GRIDS, cut, every_method, exported

START = 20  # positions that are in the cache before
#: Largest difference over the root mean square of the bundle's own output.
LIMITS = {"fp32": 2e-4, "fp16": 0.05}


def variants() -> Iterator[Any]:
    for number, (variant, plan) in enumerate(GATED):
        yield pytest.param(variant, {"plan": plan}, id=f"{number}-{variant['tower']}-{variant['decoder']}")
    for variant, asked in QWEN_GRIDS:
        yield pytest.param(variant, asked, id=variant["family"])
    for method in ("fastv", "pdrop"):
        asked = {"plan": {"inside": [{"method": method, "layers": [1, 2], "keep": [0.5, 6]}]}, "stage_chunk": 16}
        yield pytest.param({"tower": "clip", "decoder": "qwen2", "layers": 3}, asked | {"parity": False}, id=method)


def folder_of(bundle: Bundle, dialect: Dialect, precision: str, path: Path) -> Path:
    path.mkdir()
    list(prepare(bundle, dialect, precision, path, lambda: None))
    return path


def feeds(graph: GraphSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for a graph of the bundle: noise, and integers that mean something."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for spec in graph.inputs:
        if spec.dtype == "float32":
            found[spec.name] = rng.standard_normal(spec.shape).astype(np.float32) * 0.3
        elif spec.name == "slot":
            found["slot"] = np.arange(np.prod(spec.shape)).reshape(spec.shape)
        else:
            found[spec.name] = np.ones(spec.shape, spec.dtype)
    if "count" in found:  # a ranking: half of the rows are there, most of them visual
        found["total"][:] = len(found["visual"]) // 2
        found["count"][:] = 5
        found["visual"][: START // 2] = 0
        found["position_ids"] = np.arange(len(found["visual"]))[None]
        found["asking"] = found["total"] - 1
        if "origin" in found:
            found["origin"] = np.arange(len(found["origin"]))
    elif "position_ids" in found:
        axes, rows = found["position_ids"].shape
        found["position_ids"] = START + np.arange(rows) // np.arange(1, axes + 1)[:, None]  # other numbers on each axis
        if "rows" in found:
            found["rows"] = np.arange(rows) % len(found["states"])
        if "row" in found:
            found["row"][:] = rows - 1
        found["total"][:] = START + rows
        found["last_index"][:] = START + rows - 1
    return found


def outputs(path: Path, fed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of a file. Its optimiser would take out casts to half precision and back: it is off."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
    }
    given = {v.name: fed[v.name].astype(kinds[v.type]) for v in session.get_inputs()}
    return dict(zip([v.name for v in session.get_outputs()], session.run(None, given), strict=True))


def same(graph: GraphSpec, mine: dict[str, np.ndarray], reference: dict[str, np.ndarray], limit: float) -> None:
    """Every output of the bundle's graph stands in the lowered one; of a cache, what is valid after the run."""
    rows = next((spec.shape[1] for spec in graph.inputs if spec.name == "position_ids"), 0)
    for name, value in reference.items():
        expected = np.asarray(value, np.float64)
        if name.startswith("present_"):
            new = name.replace("present_", "new_")
            expected = expected[:, :, START : START + rows] if new in mine else expected[:, :, : START + rows]
            found = mine[new] if new in mine else mine[name][:, :, : START + rows]
        else:
            found = mine[name]
        assert found.shape == expected.shape, name
        scale = np.sqrt(np.mean(np.square(expected))) or 1.0
        assert np.abs(found.astype(np.float64) - expected).max() <= limit * scale, name


@pytest.mark.parametrize(("variant", "asked"), variants())
def test_every_graph_says_the_same_in_every_dialect(
    tmp_path: Path, variant: dict[str, Any], asked: dict[str, Any]
) -> None:
    bundle = Bundle.open(exported(variant, **asked), verify=False)
    for dialect in map(DIALECTS.get, DIALECTS):
        for precision in ("fp32", "fp16"):
            folder = folder_of(bundle, dialect, precision, tmp_path / f"{dialect.name}-{precision}")
            for engine, graphs in sources(bundle).items():
                for name in graphs:
                    graph = bundle.graph(name)
                    path = folder / f"{engine}.onnx"
                    if len(graphs) == 2:
                        rows = next(spec.shape[1] for spec in graph.inputs if spec.name == "position_ids")
                        path = folder / f"{name}.onnx"
                        onnx.save(static(onnx.load(folder / f"{engine}.onnx", load_external_data=False), rows), path)
                    fed = feeds(graph)
                    same(graph, outputs(path, fed), outputs(bundle.path(graph.file), fed), LIMITS[precision])


@pytest.mark.parametrize("name", ["absorb", "mctf", "evit"])
def test_a_tower_that_is_cut_says_the_same_in_every_dialect(tmp_path: Path, name: str) -> None:
    """In float32: half precision decides near ties otherwise, and then another token leaves."""
    bundle = Bundle.open(cut(name), verify=False)
    graph = bundle.graph(f"tower-{name}")
    for dialect in map(DIALECTS.get, DIALECTS):
        folder = folder_of(bundle, dialect, "fp32", tmp_path / dialect.name)
        fed = feeds(graph) | {"valid": np.ones((1, 36), np.float32)}
        found = outputs(folder / f"{graph.name}.onnx", fed)
        same(graph, found, outputs(bundle.path(graph.file), fed), LIMITS["fp32"])


def test_int8_weights_stay_int8_and_meet_activations_as_they_are(tmp_path: Path) -> None:
    bundle = Bundle.open(exported(GATED[1][0], precision="int8"), verify=False)
    folder = folder_of(bundle, PORTABLE, "fp32", tmp_path / "x")
    model = onnx.load(folder / "head.onnx", load_external_data=False)
    assert [node.op_type for node in model.graph.node[:2]] == ["DequantizeLinear", "MatMul"]
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds["head.int8.int8"] == onnx.TensorProto.INT8
    source = onnx.load(bundle.path("head.onnx"))
    weight, scale = (onnx.numpy_helper.to_array(t) for t in sorted(source.graph.initializer, key=lambda t: t.name))
    fed = feeds(bundle.graph("head"))
    expected = fed["hidden"] @ (weight.astype(np.float32) * scale)
    assert np.allclose(outputs(folder / "head.onnx", fed)["logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", [64, 40])
def test_weights_of_four_bits_meet_activations_as_they_are(tmp_path: Path, inputs: int) -> None:
    """As numbers, as INT4 with scales by block, or in ONNX Runtime's own operator; the last block may be filled up."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=size).astype(np.float32) for name, size in (("weight", (24, inputs)), ("bias", 24))}
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        store_linear(writer, "one", lambda name: [arrays[name[4:]]], ["one"], bias=True, precision="int4")
    g = Graph("one", weights_file="weights.bin")
    g.output(linear(g, writer, "one", g.input("x", "float32", (3, inputs)), 3), "y", "float32", (3, 24))
    x = rng.normal(size=(3, inputs)).astype(np.float32)
    expected = x @ dequantized_blocks(*quantize_blocks(arrays["weight"]), inputs).T + arrays["bias"]
    kinds = {"portable": TensorProto.FLOAT, "modern": TensorProto.INT4, "contributed": TensorProto.UINT8}
    for dialect in map(DIALECTS.get, DIALECTS):
        for kind, limit in (("float32", 1e-4), ("float16", 0.03)):
            folder = tmp_path / f"{dialect.name}-{kind}"
            folder.mkdir()
            with WeightsWriter(folder / "lowered.bin") as lowered:
                model = lower(
                    g.model(), dialect, kind, LoweredWeights(tmp_path / "weights.bin", lowered, "lowered.bin")
                )  # type: ignore[arg-type]
            onnx.save(model, folder / "one.onnx")
            assert kind != "float32" or kinds[dialect.name] in {t.data_type for t in model.graph.initializer}
            np.testing.assert_allclose(outputs(folder / "one.onnx", {"x": x})["y"], expected, rtol=limit, atol=limit)


def test_lowered_graphs_hold_only_operators_of_their_opset(tmp_path: Path) -> None:
    bundle = Bundle.open(every_method(), verify=False)
    for dialect in map(DIALECTS.get, DIALECTS):
        folder = folder_of(bundle, dialect, "fp16", tmp_path / dialect.name)
        for path in folder.glob("*.onnx"):
            model = onnx.load(path, load_external_data=False)
            assert {node.domain for node in model.graph.node} <= {"", *dialect.domains}
            if dialect is PORTABLE:
                onnx.checker.check_model(str(path), full_check=True)
                assert model.opset_import[0].version == 20


def test_matrix_products_are_in_half_precision_and_sums_are_not(tmp_path: Path) -> None:
    bundle = Bundle.open(exported(GATED[1][0]), verify=False)
    model = onnx.load(folder_of(bundle, PORTABLE, "fp16", tmp_path / "x") / "language.onnx", load_external_data=False)
    inferred = onnx.shape_inference.infer_shapes(static(model, CHUNK)).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    products = [n.output[0] for n in model.graph.node if n.op_type in ("Gemm", "MatMul")]
    assert len(products) >= 7 * bundle.manifest.language.layers
    assert {kinds[name] for name in products} == {onnx.TensorProto.FLOAT16}
    sums = [n.output[0] for n in model.graph.node if n.op_type == "Add" and n.name.startswith("add_")]
    assert len(sums) == 2 * bundle.manifest.language.layers
    assert {kinds[name] for name in sums} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize(("variant", "asked", "axes", "widths"), [(GATED[1][0], {}, 1, 1), (*QWEN_GRIDS[2], 3, 4)])
def test_prefill_and_decode_share_one_graph_and_a_tensor_is_written_once(
    tmp_path: Path, variant: dict[str, Any], asked: dict[str, Any], axes: int, widths: int
) -> None:
    """widths: of a row, in those of the residual stream: rows may enter behind layers, too."""
    bundle = Bundle.open(exported(variant, **asked), verify=False)
    folder = folder_of(bundle, MODERN, "fp16", tmp_path / "x")
    model = onnx.load(folder / "language.onnx", load_external_data=False)
    embeds = (ROWS, widths * bundle.manifest.language.hidden)
    assert symbolic_inputs(model) == {"embeds": embeds, "position_ids": (axes, ROWS)}
    assert not (folder / "prefill.onnx").exists()
    places = {}
    for path in folder.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if place:
                assert places.setdefault(tensor.name, place["offset"]) == place["offset"]
    assert len(set(places.values())) == len(places)
    connector = [name for name in places if name.startswith("connector.1.weight")]
    assert connector == ["connector.1.weight.float16"], "once, for all select graphs"


def test_graphs_of_two_models_are_not_joined() -> None:
    one, other = (Bundle.open(exported(variant), verify=False) for variant, _ in (GATED[1], GATED[4]))
    prefill = source_model(one, "tower")
    with pytest.raises(ExportError, match="not the same graph at two lengths"):
        joined(prefill, source_model(other, "tower"), "language")


def test_a_weight_too_large_for_half_precision_is_refused_with_the_cure(tmp_path: Path) -> None:
    values = np.full((4, 4), 7e4, np.float32)
    (tmp_path / "w.bin").write_bytes(values.tobytes())
    tensor = onnx.TensorProto(name="layers.0.o.weight", data_type=onnx.TensorProto.FLOAT, dims=(4, 4))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    with WeightsWriter(tmp_path / "half.bin") as writer:
        weights = LoweredWeights(tmp_path / "w.bin", writer, "half.bin")
        with pytest.raises(
            ExportError, match=r"layers\.0\.o\.weight has a weight of 70000, too large for float16; build"
        ):
            weights.converted(tensor, "float16")
        assert weights.converted(tensor, "bfloat16").nbytes == 32


def test_an_operator_without_a_place_in_the_dialect_is_named(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 23, "own" : 1]> g (float[4] x) => (float[4] y) { y = own.Mystery(x) }'
    with (
        WeightsWriter(tmp_path / "w.bin") as writer,
        pytest.raises(
            ExportError, match=r"own\.Mystery\) is not part of opset 20, which the dialect portable is written in"
        ),
    ):
        lower(onnx.parser.parse_model(text), PORTABLE, "float16", LoweredWeights(tmp_path / "w.bin", writer, "w.bin"))


def test_ones_own_operators_stay_only_where_the_dialect_says_so() -> None:
    assert CONTRIBUTED.domains == ("com.microsoft",)
    assert PORTABLE.domains == MODERN.domains == ()


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.02), ("bf16", 0.1)])
@pytest.mark.parametrize(
    ("variant", "asked"), [(GATED[1][0], {}), QWEN_GRIDS[1], QWEN_GRIDS[2]], ids=["clip", "windows", "deepstack"]
)
def test_half_precision_holds_where_it_is_really_computed_in(
    tmp_path: Path, variant: dict[str, Any], asked: dict[str, Any], precision: str, limit: float
) -> None:
    """ONNX Runtime has no half-precision products on the CPU and takes float32 instead: here ONNX's own reference computes every node."""
    bundle = Bundle.open(exported(variant, **asked), verify=False)
    folder = folder_of(bundle, PORTABLE, precision, tmp_path / "x")
    made = [(engine, name) for engine, graphs in sources(bundle).items() for name in graphs]
    for engine, name in ((engine, name) for engine, name in made if not engine.startswith("select")):
        graph = bundle.graph(name)
        model = onnx.load(folder / f"{engine}.onnx")
        fed = feeds(graph)
        if "embeds" in fed:
            model = static(model, len(fed["embeds"]))
        given = {}
        for value in model.graph.input:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            given[value.name] = fed[value.name].astype(kind)
        found = onnx.reference.ReferenceEvaluator(model).run(None, given)
        mine = {v.name: np.asarray(a, np.float32) for v, a in zip(model.graph.output, found, strict=True)}
        assert all(np.isfinite(value).all() for value in mine.values())
        for one, expected in outputs(bundle.path(graph.file), fed).items():
            if one in mine:
                difference = np.sqrt(np.mean(np.square(mine[one] - expected)) / np.mean(np.square(expected)))
                assert 0 < difference < limit, one
