"""Where patches stand, as constants: held against references that place them one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeprune.models import open_checkpoint
from edgeprune.models.decoders.three_axes import in_sections, interleaved
from edgeprune.models.spec import TowerSpec
from edgeprune_export.graphs.patch_positions import patch_places, resampled, rotary_tables
from tests.checkpoints import QWEN_VARIANTS, tiny_checkpoint, variant_name
from tests.references.qwen_rope import interleaved_axes, sectioned_axes, tower_angles
from tests.references.qwen_tower import resampled as one_by_one
from tests.references.qwen_tower import window_order


def towers() -> list[TowerSpec]:
    return [open_checkpoint(tiny_checkpoint(**variant), tokens=144).spec.vision for variant in QWEN_VARIANTS]


@pytest.mark.parametrize("number", range(len(QWEN_VARIANTS)), ids=map(variant_name, QWEN_VARIANTS))
def test_patches_turn_with_their_row_and_column_whatever_their_order(number: int) -> None:
    spec = towers()[number]
    step = (spec.window or 2) * spec.patch_px
    for view in ((step, step), (step, 3 * step), (4 * step, 2 * step)):
        tower = replace(spec, view=view)
        rows, cols = tower.grid
        if spec.window is None:
            expected = [divmod(patch, cols) for patch in range(rows * cols)]
        else:
            order, sizes = window_order(rows, cols, spec.window)
            assert set(sizes) == {spec.window**2}
            expected = [divmod(patch, cols) for patch in order]
        assert patch_places(tower).tolist() == [list(place) for place in expected]
        angles = tower_angles(expected, tower.head_dim, tower.rotary)[:, : tower.head_dim // 2]
        for ours, theirs in zip(rotary_tables(tower), (np.cos(angles), np.sin(angles)), strict=True):
            np.testing.assert_allclose(ours[0], theirs, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 6, 7, 9])
@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (6, 6), (1, 12), (13, 4)])
def test_a_table_is_resampled_corner_on_corner(side: int, grid: tuple[int, int]) -> None:
    table = np.random.default_rng(side).standard_normal((side**2, 3)).astype(np.float32)
    np.testing.assert_allclose(resampled(table, grid), one_by_one(table, *grid).reshape(-1, 3), atol=1e-6)


@pytest.mark.parametrize(
    "sections", [(2, 3, 3), (1, 2, 5), (3, 4, 3), (0, 4, 4), (8, 0, 0), (24, 20, 20), (16, 24, 24)]
)
def test_pairs_of_a_head_belong_to_axes(sections: tuple[int, int, int]) -> None:
    assert list(in_sections(sections)) == sectioned_axes(sections)
    assert list(interleaved(sections)) == interleaved_axes(sections, sum(sections))
