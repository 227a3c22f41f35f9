"""What methods read of the tower equals what transformers' own tower computes, for every tower that can give it."""

from __future__ import annotations

from typing import Any

import pytest

from edgeprune.models import open_checkpoint
from edgeprune.tokens.readings import READINGS, reads
from edgeprune_export.gate.eager_tower import EAGER_READINGS
from edgeprune_export.graphs.readings import GRAPH_READINGS
from edgeprune_export.graphs.tower import tower_blocks
from edgeprune_runtime import Bundle
from tests.checkpoints import tiny_checkpoint
from tests.exports import exported

METHODS = ("prumerge", "hiprune", "recoverable", "received", "flowcut")  # between them every kind of reading
READ = ("attention", "wide", "map", "received", "keys", "class_feature", "projected", "features")
TOWERS: tuple[dict[str, Any], ...] = (
    {"tower": "vit", "decoder": "llama", "names": "new"},
    {"tower": "dinov2", "decoder": "mistral", "names": "hub", "swiglu": True},
    {"tower": "clip", "decoder": "qwen2", "names": "old", "vision_layers": 5},
    {"family": "llava", "tower": "deit", "decoder": "llama", "names": "new"},
)


def test_a_reading_of_a_block_has_a_row_in_each_of_the_three_tables() -> None:
    """What it is, how graphs compute it, and how it is read of transformers' own modules."""
    of_blocks = {name for name in READINGS if READINGS[name].made == "block"}
    assert set(GRAPH_READINGS) == set(EAGER_READINGS) == of_blocks
    assert all(READINGS[name].name == name for name in READINGS)
    assert {*READ} - {"features"} == of_blocks | {name for name in READINGS if READINGS[name].made == "feature layer"}


@pytest.mark.parametrize("variant", TOWERS, ids=lambda v: v["tower"])
def test_every_reading_of_every_tower_passes_the_gate(variant: dict[str, Any]) -> None:
    bundle = exported(variant, budgets=["0.2"], plan={"method": "visionzip"}, more_methods=METHODS)
    report = Bundle.open(bundle, verify=False).manifest.parity
    names = {check.name for check in report.checks if check.name.startswith("tower: ")}
    kinds = {name.removeprefix("tower: ").rstrip("0123456789").rstrip("_") for name in names}
    assert kinds == set(READ)
    assert all(check.value < 1e-4 for check in report.checks if check.name in names)


def test_of_a_block_after_the_features_only_queries_and_keys_are_built() -> None:
    model = open_checkpoint(tiny_checkpoint(vision_layers=5)).spec
    assert model.feature_layer == 3
    assert tower_blocks(model, reads(attention=(0, 3))) == (4, 4)
    assert tower_blocks(model, reads(wide=(4,))) == (4, 5)
    bundle = Bundle.open(exported({"vision_layers": 5}, plan={"method": "damro"}, budgets=["0.2"], parity=False))
    graph = bundle.path("tower.onnx").read_bytes()
    assert b"tower.4.qkv.weight" in graph and b"tower.4.fc1.weight" not in graph
