"""Integers of weights: their layout, their error, and the products that ONNX Runtime makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import PlanError
from edgeprune_export.commands.export_classifier import export_classifier
from edgeprune_export.graphs.linear import linear, store_linear
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.quantized import dequantized_blocks, quantize_blocks
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime import Bundle, Model
from tests.classifiers import huggingface_folder, made_model
from tests.exports import exported
from tests.tilings import noise


def looped(weight: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, number by number: integers [out, blocks, block] and scales in half precision."""
    out, inputs = weight.shape
    blocks = (inputs + block - 1) // block
    integers, scales = np.zeros((out, blocks, block), int), np.zeros((out, blocks), np.float16)
    for row in range(out):
        for b in range(blocks):
            numbers = [float(weight[row, i]) if i < inputs else 0.0 for i in range(b * block, (b + 1) * block)]
            furthest = 0.0
            for number in numbers:
                if abs(number) > abs(furthest):
                    furthest = number
            scales[row, b] = np.float16(np.float32(furthest) / np.float32(-8))
            for i, number in enumerate(numbers):
                scale = np.float32(scales[row, b])
                found = 0 if scale == 0 else int(np.rint(np.float32(number) / scale))
                integers[row, b, i] = min(7, max(-8, found))
    return integers, scales


@settings(max_examples=40, deadline=None)
@given(out=st.integers(1, 4), inputs=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_blocks_of_four_bits_are_those_of_plain_loops(out: int, inputs: int, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(out, inputs)).astype(np.float32)
    weight[0, : inputs // 2] = 0
    packed, scale = quantize_blocks(weight)
    integers, scales = looped(weight, 32)
    low, high = (packed & 15).astype(int) - 8, (packed >> 4).astype(int) - 8
    np.testing.assert_array_equal(low, np.where(scales[..., None] == 0, 0, integers)[..., 0::2])
    np.testing.assert_array_equal(high, np.where(scales[..., None] == 0, 0, integers)[..., 1::2])
    np.testing.assert_array_equal(scale, scales)
    dense = (integers * scales[..., None].astype(np.float32)).reshape(out, -1)[:, :inputs]
    np.testing.assert_array_equal(dequantized_blocks(packed, scale, inputs), dense)


@pytest.mark.parametrize("inputs", [64, 96, 40])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_layer_of_four_bits_multiplies_by_what_its_blocks_stand_for(tmp_path: Path, inputs: int, rows: int) -> None:
    """Activations are integers of 8 bits by block: the difference is theirs."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(24, inputs)).astype(np.float32), rng.normal(size=24).astype(np.float32)
    arrays = {"one.weight": weight, "one.bias": bias}
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        store_linear(writer, "one", lambda name: iter([arrays[name]]), ["one"], bias=True, precision="int4")
    g = Graph("one", weights_file="weights.bin")
    g.output(linear(g, writer, "one", g.input("x", "float32", (rows, inputs)), rows), "y", "float32", (rows, 24))
    onnx.save(g.model(), tmp_path / "one.onnx")
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    expected = x @ dequantized_blocks(*quantize_blocks(weight), inputs).T + bias
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(found - (x @ weight.T + bias)).max() > np.abs(found - expected).max()


def test_the_language_model_has_four_bits_and_the_tower_eight() -> None:
    small, middle = (Bundle.open(exported(budgets=["0.5"], precision=kind)) for kind in ("int4", "int8"))
    assert small.manifest.parity.skipped is None and all(check.passed for check in small.manifest.parity.checks)
    for name in ("prefill", "decode", "head"):
        packed, whole = (bundle.manifest.work[name].weight_bytes for bundle in (small, middle))
        assert "int8" not in packed and 2 * packed["uint8"] == whole["int8"], name
    assert small.manifest.work["tower"].weight_bytes == middle.manifest.work["tower"].weight_bytes
    assert small.manifest.files["weights.bin"].bytes < middle.manifest.files["weights.bin"].bytes


def test_a_model_in_four_bits_answers_and_starts_behind_what_it_has() -> None:
    with Model.open(exported(budgets=["0.5"], precision="int4")) as model:
        view = model.see(noise(60, 60))
        first = model.ask("What is it?", image=view, max_tokens=4, stop=False)
        again = model.ask("What is it?", image=view, max_tokens=4, stop=False)
    assert len(first.token_ids) == 4 and first.token_ids == again.token_ids and again.cached_tokens > 0


def test_a_classifier_has_no_language_model_for_four_bits(tmp_path: Path) -> None:
    folder = huggingface_folder(tmp_path / "vit", made_model())
    with pytest.raises(PlanError, match="int4 is for language models.*int8"):
        export_classifier(folder, tmp_path / "out", precision="int4")
    assert not (tmp_path / "out").exists()
