"""What every method that cuts the tower promises, whatever rows it meets: exact counts, places, owners, sizes, padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut

GRID, HEADS, WIDTH = (4, 6), 2, 8
TOWER = [name for name in INSIDE if isinstance(INSIDE[name], TowerMethod)]
#: Rows of these stand for tokens of several places from the start.
CENTRES = ("expedit",)
#: Padding that pairs or cells meet by their places.
BLIND = ("pool", "expedit", "tower-random")


def cut_of(
    method: Any, seed: int, keep: int, padded: int, alike: bool, class_token: bool
) -> tuple[Rows, Rows, TowerCut]:
    """(rows before, rows behind one cut, the cut)."""
    generator = torch.Generator().manual_seed(seed)
    patches, first = GRID[0] * GRID[1], int(class_token)
    n = first + patches
    x = torch.randn(n, WIDTH, generator=generator)
    if alike:  # ties everywhere
        x = x[torch.randint(0, 3, (n,), generator=generator)]
    q, k, v = (x @ torch.randn(WIDTH, WIDTH, generator=generator) for _ in range(3))
    alive = torch.ones(n)
    alive[n - padded :] = 0
    size = torch.randint(1, 4, (n,), generator=generator).float() if method.sizes else None
    rows = Rows(x, torch.arange(n), alive, size, owner=torch.arange(n))
    cut = TowerCut(keep, 0, first, GRID, 1, {}, block=5, blocks=12)
    block = BlockRows(q, k, v, HEADS, None if size is None else torch.log(size))
    if method.start is not None:
        rows = method.start(rows, block, cut)
    if method.watch is not None:
        rows = method.watch(rows, block, cut)
    return rows, method.step(rows, block, cut), cut


@pytest.mark.parametrize("name", TOWER)
@given(
    seed=st.integers(0, 2**20),
    keep=st.integers(12, 23),
    padded=st.integers(0, 8),
    alike=st.booleans(),
    cls=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_a_cut_leaves_exactly_so_many_rows_and_knows_where_they_went(
    name: str, seed: int, keep: int, padded: int, alike: bool, cls: bool
) -> None:
    method: Any = INSIDE[name]
    first = cls or method.class_token
    keep = method.reachable(keep, GRID) if method.reachable is not None else max(keep, method.least(24))
    before, rows, cut = cut_of(method, seed, keep, padded, alike, first)
    count = cut.first + keep + method.extra
    assert rows.x.shape == (count, WIDTH) and torch.isfinite(rows.x).all()
    assert rows.place is not None and rows.alive is not None and rows.owner is not None
    assert rows.place.shape == rows.alive.shape == (count,)
    named = rows.place[rows.place >= 0]
    assert len(set(named.tolist())) == len(named), "one row for one place"
    assert (named < len(before.x)).all()
    if cut.first:
        assert int(rows.place[0]) == 0, "the class token stays in front"
    assert ((rows.owner >= -1) & (rows.owner < count)).all()
    if name not in CENTRES:
        for number, place in enumerate(rows.place.tolist()):
            assert place < 0 or int(rows.owner[place]) == number, "who stays is in its own row"
    if method.sizes:
        assert before.size is not None and rows.size is not None and before.alive is not None
        there = float((before.size * before.alive).sum())
        left = float((rows.size * torch.where(rows.alive > 0, 1.0, 0.0)).sum())
        assert left == pytest.approx(there, rel=1e-3), "nothing of a token is lost, and padding adds nothing"


@pytest.mark.parametrize("name", [name for name in TOWER if name not in BLIND])
@given(seed=st.integers(0, 2**20), keep=st.integers(12, 16), padded=st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_padding_leaves_before_anybody_else(name: str, seed: int, keep: int, padded: int) -> None:
    method: Any = INSIDE[name]
    keep = max(keep, method.least(24))
    before, rows, _ = cut_of(method, seed, keep, padded, False, True)
    assert before.alive is not None and rows.alive is not None
    there = 24 - padded
    alive = int((rows.alive[1:] > 0).sum())
    assert alive >= min(keep, there) - (padded if name in ("tome", "mctf") else 0)
