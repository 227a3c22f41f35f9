"""Classifiers: transformers' own logits, our module and ONNX Runtime's graph agree, pruned or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeprune.errors import CheckpointError
from edgeprune.models import Classifier, open_classifier
from edgeprune_export.gate.eager_classifier import classifier_module
from edgeprune_export.graphs.classifier import classifier_graph, store_classifier, write_classifier
from edgeprune_export.graphs.linear import WeightPrecision
from edgeprune_export.onnx.weights import WeightsWriter
from tests.classifiers import (
    Kept,
    bare_file,
    huggingface_folder,
    logits,
    made_model,
    made_pixels,
    masked,
    pruned_folder,
    relative,
    timm_folder,
)

EXACT = 1e-5
KEEP = (Kept(0, (0, 2), tuple(range(0, 96, 2))), Kept(1, (0, 1, 2), tuple(range(96))), Kept(3, (1,), (3, 4, 90)))


def by_graph(
    classifier: Classifier, folder: Path, pixels: torch.Tensor, precision: WeightPrecision = "fp32"
) -> np.ndarray:
    """Logits [n, classes] of ONNX Runtime, picture by picture."""
    spec = write_classifier(classifier, folder, precision)
    session = onnxruntime.InferenceSession(str(folder / spec.file), providers=["CPUExecutionProvider"])
    (name,), (out,) = spec.inputs, spec.outputs
    assert (name.shape, out.shape) == ((1, 3, *pixels.shape[2:]), (1, classifier.spec.classes))
    return np.concatenate([session.run([out.name], {name.name: one[None].numpy()})[0] for one in pixels])


@pytest.mark.parametrize("names", ["old", "new"])
@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_module_and_graph_equal_transformers_from_a_hugging_face_folder(tmp_path: Path, kind: str, names: str) -> None:
    from transformers import AutoModelForImageClassification

    folder = huggingface_folder(tmp_path / "source", made_model(kind), names)
    classifier, pixels = open_classifier(folder), made_pixels()
    expected = logits(AutoModelForImageClassification.from_pretrained(folder).eval(), pixels)
    assert expected.std() > 0.1
    for attention in ("sdpa", "eager"):
        assert relative(logits(classifier_module(classifier, attention), pixels), expected) <= EXACT
    assert relative(by_graph(classifier, tmp_path / "graph", pixels), expected) <= EXACT


@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "relu", "quick_gelu", "silu"])
def test_other_activations_and_no_query_bias(tmp_path: Path, activation: str) -> None:
    model, pixels = made_model(hidden_act=activation, qkv_bias=False), made_pixels()
    classifier = open_classifier(huggingface_folder(tmp_path / "source", model))
    assert relative(logits(classifier_module(classifier), pixels), logits(model, pixels)) <= EXACT
    assert relative(by_graph(classifier, tmp_path / "graph", pixels), logits(model, pixels)) <= EXACT


def test_module_and_graph_equal_transformers_from_a_timm_folder(tmp_path: Path) -> None:
    model, pixels = made_model(), made_pixels()
    classifier = open_classifier(timm_folder(tmp_path / "source", model))
    assert relative(logits(classifier_module(classifier), pixels), logits(model, pixels)) <= EXACT
    assert relative(by_graph(classifier, tmp_path / "graph", pixels), logits(model, pixels)) <= EXACT


def test_module_and_graph_equal_transformers_from_a_bare_half_precision_file(tmp_path: Path) -> None:
    model, pixels = made_model(hidden=128, heads=2), made_pixels()
    classifier = open_classifier(bare_file(tmp_path / "a.safetensors", model, torch.float16))
    expected = logits(model.half().float(), pixels)
    assert relative(logits(classifier_module(classifier), pixels), expected) <= EXACT
    assert relative(by_graph(classifier, tmp_path / "graph", pixels), expected) <= EXACT


def test_what_is_saved_of_an_unpruned_classifier_loads_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    model, pixels = made_model(), made_pixels()
    everything = [Kept(i, (0, 1, 2), tuple(range(96))) for i in range(3)]
    source = open_classifier(timm_folder(tmp_path / "source", model))
    folder = pruned_folder(tmp_path / "saved", source.spec, model, everything)
    assert open_classifier(folder).spec.vision == source.spec.vision
    found = AutoModelForImageClassification.from_pretrained(folder).eval()
    assert relative(logits(found, pixels), logits(model, pixels)) <= EXACT


@pytest.mark.parametrize("layers", [1, 2])
def test_few_blocks(tmp_path: Path, layers: int) -> None:
    model, pixels = made_model(layers=layers), made_pixels()
    classifier = open_classifier(huggingface_folder(tmp_path / "source", model))
    assert relative(by_graph(classifier, tmp_path / "graph", pixels), logits(model, pixels)) <= EXACT


@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_a_pruned_classifier_is_the_source_with_zeros(tmp_path: Path, kind: str) -> None:
    model, pixels = made_model(kind, layers=4), made_pixels()
    source = open_classifier(huggingface_folder(tmp_path / "source", model))
    pruned = open_classifier(pruned_folder(tmp_path / "pruned", source.spec, model, KEEP))
    expected = logits(masked(model, KEEP), pixels)
    assert relative(expected, logits(model, pixels)) > 0.1
    module = classifier_module(pruned)
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in model.parameters())
    for attention in ("sdpa", "eager"):
        assert relative(logits(classifier_module(pruned, attention), pixels), expected) <= EXACT
    assert relative(by_graph(pruned, tmp_path / "graph", pixels), expected) <= EXACT
    assert cosine(by_graph(pruned, tmp_path / "int8", pixels, "int8"), expected) > 0.95


def test_int8_is_close_and_a_quarter_of_the_size(tmp_path: Path) -> None:
    model, pixels = made_model(hidden=128, heads=2), made_pixels(8)
    classifier = open_classifier(huggingface_folder(tmp_path / "source", model))
    found = by_graph(classifier, tmp_path / "int8", pixels, "int8")
    full = write_classifier(classifier, tmp_path / "fp32", "fp32")
    small = onnx.load(tmp_path / "int8" / "model.onnx", load_external_data=False)
    assert {node.op_type for node in small.graph.node} >= {"DynamicQuantizeMatMul"}
    assert write_classifier(classifier, tmp_path / "int8", "int8").weight_bytes < 0.35 * full.weight_bytes
    assert cosine(found, logits(model, pixels)) > 0.99


def test_the_last_block_works_for_the_class_row_only(tmp_path: Path) -> None:
    classifier = open_classifier(huggingface_folder(tmp_path / "source", made_model()))
    with WeightsWriter(tmp_path / "weights.bin") as writer:
        steps = list(store_classifier(writer, classifier.weights.blocks, classifier.spec, "fp32"))
    assert len(steps) == classifier.spec.vision.layers + 2
    model = classifier_graph(classifier.spec, writer, "weights.bin").model()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*inferred.value_info, *inferred.output)
    }
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    rows = [shapes[node.output[0]][0] for node in gemms]
    assert rows == [17, 17, 17, 17] * 2 + [17, 1, 1, 1] + [1], "qkv, o, fc1, fc2 per block, and the head"
    attended = [shapes[node.output[0]][1] for node in model.graph.node if node.op_type == "MultiHeadAttention"]
    assert attended == [17, 17, 1]


def test_gradients_reach_the_inputs_of_out_matrices(tmp_path: Path) -> None:
    """Calibration looks at them."""
    module: Any = classifier_module(open_classifier(huggingface_folder(tmp_path / "source", made_model())))
    seen: list[torch.Tensor] = []

    def listen(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        given[0].retain_grad()
        seen.append(given[0])

    module.vit.layers[0].mlp.fc2.register_forward_pre_hook(listen)
    module(made_pixels()).logits.sum().backward()
    assert seen[0].grad is not None and float(seen[0].grad.abs().sum()) > 0


def test_nan_stops_module_and_graph(tmp_path: Path) -> None:
    folder = huggingface_folder(tmp_path / "source", made_model())
    values = load_file(folder / "model.safetensors")
    values["classifier.bias"][0] = float("inf")
    save_file(values, folder / "model.safetensors")
    classifier = open_classifier(folder)
    with pytest.raises(CheckpointError, match="classifier.bias .* holds NaN or infinity"):
        write_classifier(classifier, tmp_path / "graph")
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        classifier_module(classifier)


@pytest.mark.skipif(
    "EDGEPRUNE_VIT" not in os.environ, reason="set EDGEPRUNE_VIT to a pretrained ViT (timm names, safetensors)"
)
def test_a_pretrained_classifier(tmp_path: Path) -> None:
    classifier = open_classifier(os.environ["EDGEPRUNE_VIT"])
    px = classifier.spec.vision.image_px
    pixels = torch.rand(2, 3, px, px, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = logits(classifier_module(classifier), pixels)
    assert relative(by_graph(classifier, tmp_path / "graph", pixels), expected) <= EXACT


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
