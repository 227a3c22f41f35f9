"""Parameters and MACs that a plan promises are those of the exported files, counted there."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgeprune.models import open_checkpoint, open_classifier
from edgeprune.models.spec import DecoderSpec
from edgeprune.plan import budget_from_text
from edgeprune.structure import cost
from edgeprune.structure.plan import widths
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import target_from_text
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.commands.export import export
from edgeprune_export.commands.export_classifier import export_classifier
from edgeprune_export.onnx_pruning.count import count
from edgeprune_export.pruning.options import PruneOptions
from edgeprune_export.pruning.prune import prune
from edgeprune_runtime.spec import TokenPlan
from tests.checkpoints import tiny_checkpoint
from tests.classifiers import huggingface_folder, made_model
from tests.pruning.made import pictures


def request(target: str) -> StructureRequest:
    return StructureRequest(target_from_text(target), importance="random", align=8)


@pytest.mark.parametrize("variant", [{}, {"tower": "dinov2", "swiglu": True, "decoder": "mistral", "tied": True}])
def test_the_graphs_of_a_pruned_model_have_the_promised_parameters_and_macs(variant: dict, tmp_path: Path) -> None:
    """The method reads nothing of the tower, so its graph is the tower alone."""
    requests = {"tower": request("params=0.8"), "language": request("macs=0.8")}
    record = prune(tiny_checkpoint(**variant), tmp_path / "smaller", PruneOptions(requests, compensate=False))
    spec = open_checkpoint(tmp_path / "smaller").spec
    options = ExportOptions(
        (budget_from_text("0.4"),), TokenPlan(method="uniform"), controls=False, chunk=16, parity=False
    )
    bundle = export(tmp_path / "smaller", tmp_path / "bundle", options)
    tower = widths(spec.vision, spec.feature_layer + 1)
    counted = count(onnx.load(tmp_path / "bundle" / "tower.onnx"))
    assert counted.macs == cost.macs_of_tower(spec.vision).of(tower)
    assert counted.params == cost.parameters(spec.vision).of(tower) == record.parts["tower"].after
    layers = widths(spec.language, spec.language.layers)
    stored = {}
    for name in ("prefill", "decode", "head"):
        model = onnx.load(tmp_path / "bundle" / f"{name}.onnx")
        stored |= {t.name: numpy_helper.to_array(t).size for t in model.graph.initializer if _is_weight(t.name)}
    embedding = bundle.manifest.language.embedding.shape
    own = sum(stored.values()) + (0 if spec.language.tied else embedding[0] * embedding[1])
    assert own == cost.parameters(spec.language).of(layers)
    for positions in (1, 40):
        linear, attention = _language_macs(tmp_path / "bundle", spec.language, positions)
        assert linear + attention == cost.macs_of_language(spec.language, positions).of(layers)


def test_the_graph_of_a_pruned_tower_with_windows_has_the_promised_macs(tmp_path: Path) -> None:
    """A block that left moved the one that sees all; and what is promised is promised of the largest grid."""
    variant = {"family": "qwen2_5_vl", "vision_layers": 4, "full_blocks": (2,)}
    request = StructureRequest(target_from_text("macs=0.6"), importance="random", align=8, blocks=1)
    asked = PruneOptions({"tower": request}, images=pictures(), pictures=1)
    record = prune(tiny_checkpoint(**variant), tmp_path / "smaller", asked)
    spec = open_checkpoint(tmp_path / "smaller").spec
    options = ExportOptions(
        (budget_from_text("0.4"),), TokenPlan(method="uniform"), controls=False, chunk=16, parity=False
    )
    export(tmp_path / "smaller", tmp_path / "bundle", options)
    height, width = spec.vision.view or (0, 0)
    counted = count(onnx.load(tmp_path / "bundle" / f"tower-{height}x{width}.onnx"))
    price = cost.macs_of_tower(spec.vision)
    assert counted.macs == price.of(widths(spec.vision, spec.feature_layer + 1)) == record.parts["tower"].after
    assert [block.block for block in record.parts["tower"].blocks if block.block == 2] == [2]
    assert spec.vision.full in ((1,), (2,)) and price.apart[spec.vision.full[0]] > price.group


def test_the_graph_of_a_pruned_classifier_has_the_promised_parameters_and_macs(tmp_path: Path) -> None:
    model = huggingface_folder(tmp_path / "vit", made_model())
    record = prune(model, tmp_path / "smaller", PruneOptions({"tower": request("macs=0.8")}, compensate=False))
    export_classifier(tmp_path / "smaller", tmp_path / "graph")
    spec = open_classifier(tmp_path / "smaller").spec
    kept = widths(spec.vision, spec.vision.layers)
    counted = count(onnx.load(tmp_path / "graph" / "model.onnx"))
    assert counted.macs == cost.macs_of_classifier(spec.vision, spec.classes).of(kept) == record.parts["tower"].after
    assert counted.params == cost.parameters(spec.vision, classes=spec.classes).of(kept)


def _is_weight(name: str) -> bool:
    return name.startswith(("layers.", "norm.", "head.", "embed."))


def _language_macs(folder: Path, spec: DecoderSpec, positions: int) -> tuple[int, int]:
    """From the decode graph, one position: its matrix products, and per layer what causal attention over a prompt comes to."""
    graph = onnx.load(folder / "decode.onnx").graph
    sizes = {t.name: tuple(t.dims) for t in graph.initializer}
    head = onnx.load(folder / "head.onnx").graph
    (table,) = [tuple(t.dims) for t in head.initializer if len(t.dims) == 2]
    products = [sizes[node.input[1]] for node in graph.node if node.op_type == "Gemm"]
    heads = [
        next(a.i for a in node.attribute if a.name == "num_heads")
        for node in graph.node
        if node.op_type == "GroupQueryAttention"
    ]
    linear = positions * sum(rows * columns for rows, columns in products) + table[0] * table[1]
    return linear, sum(positions * (positions + 1) * h * spec.head_dim for h in heads)
