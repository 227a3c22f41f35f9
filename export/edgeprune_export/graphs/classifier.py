"""A plain image classifier as one static graph: pixels in, logits out.

Only the class token's row reaches the head, so the last block asks with that row alone: its attention has one query, and o-projection, MLP
and final norm see one row instead of R.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from edgeprune.models.classifiers.open import Classifier
from edgeprune.models.spec import ClassifierSpec
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune_export.bundle.seal import CLASSIFIER
from edgeprune_export.graphs.cut_rows import CutRows, Part
from edgeprune_export.graphs.linear import Reader, WeightPrecision, linear, store_linear
from edgeprune_export.graphs.norm import norm, store_norm
from edgeprune_export.graphs.patch_positions import store_positions
from edgeprune_export.graphs.tower import (
    after_attention,
    attention,
    block,
    embed,
    queries_keys_values,
    store_block,
    store_embeddings,
)
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.onnx.weights import WeightsWriter
from edgeprune_runtime.spec import GraphSpec

WEIGHTS = "weights.bin"


def store_classifier(
    writer: WeightsWriter, read: Reader, spec: ClassifierSpec, precision: WeightPrecision
) -> Iterator[str]:
    """Stream the classifier into the weights file, yielding after each block for progress."""
    store_embeddings(writer, read, spec.vision)
    store_positions(writer, read, spec.vision)
    yield "tower.embeddings"
    for i in range(spec.vision.layers):
        yield store_block(writer, read, spec.vision.at(i), i, precision)
    store_norm(writer, read, "tower.norm", spec.vision.norm)
    store_linear(writer, "classifier", read, ["classifier"], bias=True, precision=precision)
    yield "classifier"


def classifier_graph(
    spec: ClassifierSpec, writer: WeightsWriter, weights_file: str, cuts: TowerCuts | None = None
) -> Graph:
    """pixels [1, 3, P, P], normalised -> logits [1, classes]. cuts: how tokens leave between blocks."""
    tower = spec.vision
    g = Graph("classifier", weights_file=weights_file)
    rows, last = tower.positions, tower.layers - 1
    x = embed(g, writer, tower, g.input("pixels", "float32", (1, 3, tower.image_px, tower.image_px)))
    if cuts is not None:
        left = CutRows(g, writer, tower, cuts, {"x": Part(x, (rows, tower.hidden))})
        for i in range(last):
            left.block(i)
        qkv = left.before(last)
        x = _class_row_of_block(g, writer, spec, last, left.x, qkv, left.count, left.bias(1))
    else:
        for i in range(last):
            at, p = tower.at(i), f"tower.{i}"
            x = block(g, writer, at, p, x, queries_keys_values(g, writer, at, p, x, rows), rows)
        qkv = queries_keys_values(g, writer, tower.at(last), f"tower.{last}", x, rows)
        x = _class_row_of_block(g, writer, spec, last, x, qkv, rows)
    row = norm(g, writer, x, "tower.norm", tower.eps, tower.norm)
    g.output(linear(g, writer, "classifier", row, 1), "logits", "float32", (1, spec.classes))
    return g


def write_classifier(
    classifier: Classifier, folder: Path, precision: WeightPrecision = "fp32", cuts: TowerCuts | None = None
) -> GraphSpec:
    """Write model.onnx and weights.bin into `folder`, which is made if it is missing; what an error leaves there is the caller's to remove.

    Raises CheckpointError for NaN, infinity or a file cut short, ExportError for a graph that is not static.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with WeightsWriter(folder / WEIGHTS) as writer:
        for _ in store_classifier(writer, classifier.weights.blocks, classifier.spec, precision):
            pass
    graph = classifier_graph(classifier.spec, writer, WEIGHTS, cuts)
    onnx.save(graph.model(), folder / CLASSIFIER)
    return graph.spec(CLASSIFIER)


def _class_row_of_block(
    g: Graph,
    writer: WeightsWriter,
    spec: ClassifierSpec,
    i: int,
    x: str,
    qkv: tuple[str, str, str],
    rows: int,
    bias: str | None = None,
) -> str:
    """Block i on x [R, C], as far as the class token's row needs it: [1, C]."""
    at, p = spec.vision.at(i), f"tower.{i}"
    asking, own = (g.node("Gather", [value, g.integers(0)], axis=0) for value in (qkv[0], x))
    mixed = attention(g, at, (asking, *qkv[1:]), 1, rows, bias)
    return after_attention(g, writer, at, p, own, mixed, 1)
