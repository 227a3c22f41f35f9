"""Every method keeps the same tokens in eager torch and in ONNX Runtime, ties and thin pictures included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edgeprune.models import open_checkpoint
from edgeprune.plan import TokenPlan
from edgeprune.tokens import combine
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.seen import Seen
from edgeprune_export.select import select_graph, store_projector
from edgeprune_export.weights import WeightsWriter
from edgeprune_runtime import Bundle
from edgeprune_runtime.layout import layout_from_size
from tests.checkpoints import tiny_checkpoint

EARLY, LATE = 0, 1
SIZES = ((120, 170), (50, 140), (140, 60), (96, 96), (300, 290), (3, 900), (900, 3), (30, 260), (1, 1))
KEEPS = (36, 40, 90)  # of the tiny bundle; "full" has one graph per tile count
EDGES = (1, 179)  # traced here, for the methods whose graphs depend on K most
PLAN = TokenPlan(early_layer=EARLY, feature_layer=LATE)


class Projector:
    """The checkpoint's projector in float64."""

    def __init__(self) -> None:
        read = open_checkpoint(tiny_checkpoint()).weights.read
        self.layers = [(read(f"projector.{i}.weight"), read(f"projector.{i}.bias")) for i in (1, 2)]

    def __call__(self, rows: torch.Tensor) -> np.ndarray:
        (w1, b1), (w2, b2) = ([torch.from_numpy(np.array(a)).double() for a in layer] for layer in self.layers)
        hidden = torch.nn.functional.gelu(rows.double() @ w1.T + b1)
        return np.asarray(hidden @ w2.T + b2)


@pytest.fixture(scope="module")
def projector() -> Projector:
    return Projector()


def pictures(bundle: Bundle) -> list[Seen]:
    """Per size one picture with softmax attention and one full of ties."""
    preprocess = bundle.manifest.preprocess
    heads, width = bundle.manifest.vision_heads, bundle.manifest.vision_hidden
    rng, found = np.random.default_rng(0), []
    for size in SIZES:
        layout = layout_from_size(*size, preprocess)
        tiles, tokens = layout.slot.shape
        for tied in (False, True):
            shape = (tiles, heads, tokens)
            early, late = (
                rng.integers(0, 3, shape).astype(np.float32) if tied else rng.dirichlet(np.ones(tokens), shape[:2])
                for _ in range(2)
            )
            features = rng.normal(size=(tiles, tokens, width))
            absent = np.arange(tiles) >= layout.tiles  # whatever the picture before it left there
            features[absent] = 1e3
            attention = {EARLY: early, LATE: late}
            found.append(
                Seen(
                    torch.from_numpy(features.astype(np.float32)),
                    {layer: torch.from_numpy(rows.astype(np.float32)) for layer, rows in attention.items()},
                    torch.from_numpy(np.array(layout.slot)),
                    torch.from_numpy(np.array(layout.region)),
                    torch.from_numpy(np.asarray(layout.mosaic, np.int64)),
                )
            )
    return found


def session_of(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    offered: dict[str, Any] = {
        "features": seen.features,
        "slot": seen.slot,
        "region": seen.region,
        "mosaic": seen.mosaic,
    }
    offered |= {f"attention_{layer}": rows for layer, rows in seen.attention.items()}
    asked = {value.name: np.ascontiguousarray(offered[value.name]) for value in session.get_inputs()}
    visual, kept = session.run(["visual", "kept"], asked)
    return visual, kept


def check(session: ort.InferenceSession, method: str, keep: int, seen: Seen, projector: Projector) -> None:
    visual, kept = run(session, seen)
    reduction = METHODS[method].reduce(seen, keep, PLAN)
    assert np.array_equal(kept, reduction.index.numpy())
    count = int((kept >= 0).sum())
    assert count == min(keep, int((seen.slot >= 0).sum()))
    expected = projector(combine.apply(seen, reduction))[:count]
    np.testing.assert_allclose(visual[:count], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", [*METHODS])
def test_graph_and_eager_keep_the_same_tokens(tiny_bundle: Path, method: str, projector: Projector) -> None:
    bundle = Bundle.open(tiny_bundle, verify=False)
    assert bundle.manifest.plan.early_layer == EARLY and bundle.manifest.plan.feature_layer == LATE
    selections = {s.graph: s for s in bundle.manifest.selections if s.method == method}
    assert {s.keep for s in selections.values()} == ({108, 180} if method == "full" else set(KEEPS))
    for selection in selections.values():
        session = session_of(tiny_bundle / bundle.graph(selection.graph).file)
        for seen in pictures(bundle):
            check(session, method, selection.keep, seen, projector)


@pytest.mark.parametrize("method", ["hired", "downsample"])
def test_graph_and_eager_agree_at_the_smallest_and_almost_largest_budget(
    tiny_bundle: Path, method: str, projector: Projector, tmp_path: Path
) -> None:
    bundle = Bundle.open(tiny_bundle, verify=False)
    checkpoint = open_checkpoint(tiny_checkpoint())
    for keep in EDGES:
        with WeightsWriter(tmp_path / "weights.bin") as writer:
            store_projector(writer, checkpoint.weights.blocks, checkpoint.spec.projector, "fp32")
        graph = select_graph("select", method, keep, PLAN, checkpoint.spec, writer, "weights.bin")
        onnx.save(graph.model(), tmp_path / "select.onnx")
        session = session_of(tmp_path / "select.onnx")
        for seen in pictures(bundle):
            check(session, method, keep, seen, projector)


def test_a_graph_declares_only_the_inputs_that_its_method_reads(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle, verify=False)
    names = {
        method: {spec.name for spec in bundle.graph(f"select-{method}-k36").inputs} for method in ("hired", "random")
    }
    assert names["hired"] == {"features", "attention_0", "attention_1", "slot", "region"}
    assert names["random"] == {"features", "slot"}
