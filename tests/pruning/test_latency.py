"""Seconds as a price: fitted to timed graphs, never negative, and a target like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.models import open_checkpoint
from edgeprune.models.spec import Width
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import target_from_text
from edgeprune_export.bundle.progress import silent
from edgeprune_export.pruning.options import PruneOptions
from edgeprune_export.pruning.prices.latency import seconds
from edgeprune_export.pruning.prices.terms import PricedRequest
from edgeprune_export.pruning.prices.timed_blocks import price_from, price_of_language, price_of_tower
from edgeprune_export.pruning.prune import prune
from tests.checkpoints import tiny_checkpoint
from tests.pruning.made import QWEN

STACKS = np.array([[1, 1, 8, 512], [1, 2, 16, 1024], [1, 1, 4, 256], [1, 1, 4, 512], [1, 1, 8, 256]], float)


def test_a_price_is_found_again_from_times_that_follow_it() -> None:
    found = price_from(STACKS, STACKS @ [3e-4, 2e-4, 5e-5, 1e-6])
    assert (found.fixed, found.block, found.group, found.channel) == pytest.approx((3e-4, 2e-4, 5e-5, 1e-6))
    assert found.of([Width(8, 512), Width(4, 256)]) == pytest.approx(3e-4 + 4e-4 + 12 * 5e-5 + 768e-6)


def test_blocks_that_cost_something_else_have_a_price_apart() -> None:
    windowed = np.column_stack([STACKS, np.zeros(len(STACKS))])
    whole = windowed[:, [0, 1, 4, 3, 2]]
    rows = np.concatenate([windowed, whole])
    found = price_from(rows, rows @ [3e-4, 2e-4, 5e-5, 1e-6, 9e-5], apart=(1, 3))
    assert found.apart == pytest.approx({1: 9e-5, 3: 9e-5}) and found.group == pytest.approx(5e-5)
    assert found.of([Width(8, 512), Width(4, 256)], [0, 3]) == pytest.approx(3e-4 + 4e-4 + 8 * 5e-5 + 4 * 9e-5 + 768e-6)


def test_a_unit_that_seems_to_cost_less_than_nothing_costs_next_to_nothing() -> None:
    found = price_from(STACKS, STACKS @ [-1e-4, 1e-3, -5e-5, 1e-6])
    assert found.fixed == 0 and 0 < found.group < 1e-6 and found.block >= 0


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_blocks_of_a_real_shape_are_timed_and_cost_something(precision: str) -> None:
    model = open_checkpoint(tiny_checkpoint()).spec
    tower = price_of_tower(model.vision, precision, seconds, silent)  # type: ignore[arg-type]
    language = price_of_language(model.language, precision, PricedRequest(40, 4, 16, 64), seconds, silent)  # type: ignore[arg-type]
    for price, width in (
        (tower, Width(model.vision.heads, model.vision.mlp)),
        (language, Width(model.language.kv_heads, model.language.mlp)),
    ):
        assert 0 < price.of([width]) < 10


@pytest.mark.parametrize("variant", [QWEN[1], QWEN[2]], ids=["windows", "deepstack"])
def test_blocks_with_windows_and_rotated_rows_are_timed_too(variant: dict[str, Any]) -> None:
    model = open_checkpoint(tiny_checkpoint(**variant), tokens=16).spec
    tower = price_of_tower(model.vision, "fp32", seconds, silent)
    language = price_of_language(model.language, "fp32", PricedRequest(40, 4, 16, 64), seconds, silent)
    assert set(tower.apart) == set(model.vision.full) and all(cost > 0 for cost in tower.apart.values())
    assert 0 < tower.of([Width(model.vision.heads, model.vision.mlp)] * 3) < 10
    assert 0 < language.of([Width(model.language.kv_heads, model.language.mlp)]) < 10


def test_a_latency_target_is_met_in_predicted_seconds(tmp_path: Path) -> None:
    request = StructureRequest(target_from_text("latency=0.9"), importance="magnitude", align=8)
    part = prune(tiny_checkpoint(), tmp_path / "out", PruneOptions({"language": request})).parts["language"]
    assert part.target == "latency=0.9" and part.before and part.after and 0 < part.after < part.before
