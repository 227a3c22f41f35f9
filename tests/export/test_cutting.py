"""FlowCut inside the tower: the counts of its source, and the same tokens as the reference, block by block, graph included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.models import open_checkpoint
from edgeprune.models.spec import TowerSpec
from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods.flowcut import counts, own_cuts
from edgeprune.tokens.readings import reads
from edgeprune_export.gate.eager_cut_tower import cut_tile
from edgeprune_export.gate.eager_tower import projections
from edgeprune_export.gate.noted_attention import NAME, register
from edgeprune_runtime import Bundle, Model
from tests.checkpoints import tiny_checkpoint
from tests.exports import exported
from tests.references import flowcut as reference

DEEP = {"tower": "clip", "decoder": "llama", "vision_layers": 7}


@pytest.mark.parametrize("keep", [64, 128, 192])
def test_counts_follow_the_source(keep: int) -> None:
    ratios = dict.fromkeys(range(22), 0.75)
    found = counts(ratios, 22, 576, keep)
    assert list(found) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    assert list(found.values()) == reference.default_counts(576, keep, 22)


def made_tower(patches: int) -> TowerSpec:
    return TowerSpec("clip", 24, 64, 4, 16, 128, 14 * patches, 14, "quick_gelu", 1e-5, 1)


def test_a_budget_above_the_tile_cuts_nothing() -> None:
    assert counts(dict.fromkeys(range(22), 0.75), 22, 576, 576) == {}
    large = made_tower(24)
    assert own_cuts(MethodPlan(22, 23), 576, 1, large).keep == own_cuts(MethodPlan(22, 23), 1151, 2, large).keep == {}
    assert own_cuts(MethodPlan(22, 23), 575, 1, large).keep[21] == 575


def test_ratios_that_were_calibrated_hold_for_their_own_block() -> None:
    plan = MethodPlan(5, 6, {"entropy_ratio": 0.5, "entropy_ratio_2": 0.25})
    left = list(own_cuts(plan, 9, 1, made_tower(6)).keep.values())
    assert left == reference.schedule(36, 9, 5, [0.5, 0.25, 0.5])


def tower_of(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    register()
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation=NAME)
    return model.eval().model.vision_tower


class Blocks:
    """Runs the tower's own blocks on the tokens that the reference still has."""

    def __init__(self, tower: Any, tile: torch.Tensor, heads: int) -> None:
        self._tower, self._heads = tower, heads
        self._blocks = [m for n, m in tower.named_modules() if n.split(".")[-1].isdigit()]
        embeddings = [m for n, m in tower.named_modules() if n.endswith("embeddings") or n.endswith("pre_layrnorm")]
        x = tile[None]
        for module in embeddings:
            x = module(x)
        self.rows, self._there = x[0], list(range(x.shape[1] - 1))

    def read(self, block: int, there: list[int]) -> reference.Block:
        """Readings of this block for the tokens still there; the rows of the others are dropped first."""
        stay = [0] + [1 + self._there.index(j) for j in there]
        self.rows, self._there = self.rows[stay], list(there)
        heard: dict[tuple[int, str], torch.Tensor] = {}
        with projections(self._tower, {block}, heard):
            self.rows = self._blocks[block](self.rows[None], attention_mask=None)
            self.rows = (self.rows[0] if isinstance(self.rows, tuple) else self.rows)[0]
        q, k, v = (heard[block, part].reshape(len(stay), self._heads, -1).transpose(0, 1).double() for part in "qkv")
        weights = torch.softmax(q[:, :1] @ k.transpose(1, 2) / k.shape[2] ** 0.5, dim=-1)[:, 0, 1:]
        return reference.Block(weights.tolist(), v[:, 0].tolist(), v[:, 1:].tolist())


def tiles() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 0.8):
        valid = (rng.random(36) >= share).astype(np.float32)
        yield torch.from_numpy(rng.normal(size=(3, 48, 48)).astype(np.float32)), torch.from_numpy(valid)


@torch.inference_mode()
def test_the_tokens_that_are_left_are_those_of_the_reference() -> None:
    folder = tiny_checkpoint(**DEEP)
    model, tower = open_checkpoint(folder).spec, tower_of(folder)
    cuts = own_cuts(MethodPlan(model.feature_layer, model.vision.layers - 1), 18, 5, model.vision)
    assert model.feature_layer == 5 and list(cuts.keep) == [0, 2, 4]
    left = list(cuts.keep.values())
    assert left == reference.default_counts(36, 9, 5), "half of K for each of several tiles"
    for tile, valid in tiles():
        blocks = Blocks(tower, tile, model.vision.heads)
        padding = frozenset(np.flatnonzero(valid.numpy() == 0).tolist())
        last = reference.fixed(blocks.read, 36, left, model.feature_layer, padding)[-1]
        found = cut_tile(tower, model, tile, valid, cuts, reads("carried"))
        places = last.tokens
        assert np.flatnonzero(found["features"].abs().sum(dim=1).numpy()).tolist() == places
        np.testing.assert_allclose(found["carried"][places].numpy(), last.state, rtol=1e-4, atol=1e-6)
        gone = np.setdiff1d(np.arange(36), places)
        assert (found["carried"][gone] == 0).all() and (found["alive"][gone] == 0).all()
        assert np.flatnonzero(found["owner"].numpy() >= 0).tolist() == places, "who leaves is in nobody"


def test_the_graph_of_a_deep_tower_passes_the_gate_and_keeps_k() -> None:
    bundle = exported(DEEP, budgets=["0.2", "0.05", "0.5"], plan={"method": "flowcut"})
    manifest = Bundle.open(bundle, verify=False).manifest
    # Half of 90 tokens is more than a tile has: that tower cuts nothing.
    assert {s.tower for s in manifest.selections} == {"tower-flowcut-k36", "tower-flowcut-k9", "tower-flowcut-k90"}
    assert {"tower-flowcut-k36: carried", "tower-flowcut-k9: features"} <= {c.name for c in manifest.parity.checks}
    picture = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    with Model.open(bundle, threads=1) as model:
        for view in model.see_each(picture, [("0.2", None), ("0.05", None), ("0.5", None)]):
            assert len(view.kept) == view.selection.keep
            assert (view.picture.slot.reshape(-1)[view.kept] >= 0).all()


def test_a_picture_too_thin_for_its_tiles_is_answered_and_says_what_happened() -> None:
    bundle = exported(DEEP, budgets=["0.2", "0.05", "0.5"], plan={"method": "flowcut"})
    with Model.open(bundle, threads=1) as model:
        view = model.see(np.zeros((3, 900, 3), np.uint8), budget="0.2")  # only the thumbnail has tokens, cut to 18
    assert len(view.kept) == 18
    assert any("flowcut left 18 of the picture's 36 visual tokens" in note for note in view.notes)
