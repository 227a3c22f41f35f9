"""Hand-computed cases and properties of the selection references."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from .selection import (
    band_count,
    candidates_by_slot,
    content_mass,
    downsample,
    hired,
    hired_published,
    pooling_cells,
    published_seats,
    random_by_scores,
    ranked_candidates,
    sainte_lague,
    split_keep,
    tile_weights,
    uniform,
)

# Three tiles of four tokens. Slots: thumbnail 0..3; two crops side by side, 2 x 2 tokens each, stitched to a 2 x 4
# mosaic with one newline per row (slots 8 and 13):   4 5 | 6 7 nl     9 10 | 11 12 nl
SLOT = np.array([[0, 1, 2, 3], [4, 5, 9, 10], [6, 7, 11, 12]])
REGION = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.float32)
# sums over the two heads: patches 2 1 1 0 -> tile 1 = patches 0, 2 = 3; tile 2 = patches 1, 3 = 1
EARLY = np.array([[1.5, 0.25, 0.5, 0.0], [0.5, 0.75, 0.5, 0.0]], dtype=np.float32)
# sums over the heads: tile 0: 1 4 2 3; tile 1: 5 5 1 9; tile 2: 0 2 8 2
FEATURE = np.array(
    [
        [[1, 0, 2, 1], [0, 4, 0, 2]],
        [[2, 5, 1, 0], [3, 0, 0, 9]],
        [[0, 1, 8, 2], [0, 1, 0, 0]],
    ],
    dtype=np.float32,
)
# descending: tile 0: 1 3 2 0; tile 1 (flat 4..7): 7 4 5 6; tile 2 (flat 8..11): 10 9 11 8


# ---------------------------------------------------------------------------------------------------------- by hand


def test_mass_weights_and_ranking_by_hand() -> None:
    assert content_mass(EARLY, REGION) == [0, 3, 1]
    assert tile_weights([Fraction(0), Fraction(3), Fraction(1)], 0.5) == [
        Fraction(1, 2),
        Fraction(3, 8),
        Fraction(1, 8),
    ]
    assert ranked_candidates(FEATURE, SLOT) == [[1, 3, 2, 0], [7, 4, 5, 6], [10, 9, 11, 8]]


# Quotients: tile 0: 1 1/3 1/5 1/7; tile 1: 3/4 1/4 3/20 3/28; tile 2: 1/4 1/12 1/20 1/28.
# Order of seats: 0 1 0 1(tie 1/4 with tile 2) 2 0 1(3/20) 0(1/7) 1(3/28) 2(1/12) 2 2
@pytest.mark.parametrize(
    ("keep", "seats", "chosen"),
    [
        (0, [0, 0, 0], []),
        (1, [1, 0, 0], [1]),
        (2, [1, 1, 0], [1, 7]),
        (3, [2, 1, 0], [1, 3, 7]),
        (4, [2, 2, 0], [1, 3, 4, 7]),
        (5, [2, 2, 1], [1, 3, 4, 7, 10]),
        (6, [3, 2, 1], [1, 2, 3, 4, 7, 10]),
        (7, [3, 3, 1], [1, 2, 3, 4, 5, 7, 10]),
        (10, [4, 4, 2], [0, 1, 2, 3, 4, 5, 9, 6, 7, 10]),  # slots 0 1 2 3 4 5 7 9 10 11
        (12, [4, 4, 4], [0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11]),
        (40, [4, 4, 4], [0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11]),
    ],
)
def test_hired_by_hand(keep: int, seats: list[int], chosen: list[int]) -> None:
    weights = tile_weights(content_mass(EARLY, REGION), 0.5)
    assert sainte_lague(weights, [4, 4, 4], keep) == seats
    assert hired(EARLY, FEATURE, SLOT, REGION, keep, 0.5) == chosen


# keep 4: 2 | 2 * 3/4 = 1.5, 2 * 1/4 = 0.5;  6: 3 | 2.25, 0.75;  7: 3 | 3, 1;
# 12: 4 (floor 6, capped) | 8 * 3/4 = 6 -> 4 (capped), 2
@pytest.mark.parametrize(
    ("keep", "chosen"),
    [
        (0, []),
        (1, []),  # 0 | 0.75, 0.25: the whole budget is lost to the floors
        (4, [1, 3, 7]),
        (6, [1, 2, 3, 4, 7]),
        (7, [1, 2, 3, 4, 5, 7, 10]),
        (12, [0, 1, 2, 3, 4, 5, 9, 6, 7, 10]),
    ],
)
def test_published_by_hand(keep: int, chosen: list[int]) -> None:
    assert hired_published(EARLY, FEATURE, SLOT, REGION, keep, 0.5) == chosen


def test_published_caps() -> None:
    mass = [Fraction(0), Fraction(3), Fraction(1)]
    assert published_seats(mass, [4, 4, 4], 12, 0.5) == [4, 4, 2]
    assert published_seats(mass, [2, 9, 9], 12, 0.5) == [2, 7, 2]  # 6 -> 2, then 10 * 3/4 = 7.5 and 2.5
    assert published_seats(mass, [9, 0, 1], 12, 0.5) == [6, 0, 1]


def test_tie_between_thirds() -> None:
    # s = 1, 2: w = 1/2 1/6 1/3; quotients tile 0: 1 1/3 1/5, tile 1: 1/3 1/9, tile 2: 2/3 2/9 2/15.
    # Order 0, 2, 0 (tie 1/3 with tile 1), 1, 2, 0
    weights = tile_weights([Fraction(0), Fraction(1), Fraction(2)], 0.5)
    got = [sainte_lague(weights, [9, 9, 9], keep) for keep in range(1, 7)]
    assert got == [[1, 0, 0], [1, 0, 1], [2, 0, 1], [2, 1, 1], [2, 1, 2], [3, 1, 2]]


def test_full_tile_passes_its_seats_on() -> None:
    # As in test_hired_by_hand, but tile 0 has room for one: 0 1 1(tie) 2 1(3/20) 1(3/28) 2(1/12)
    weights = [Fraction(1, 2), Fraction(3, 8), Fraction(1, 8)]
    assert [sainte_lague(weights, [1, 4, 4], k) for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)] == [
        [1, 0, 0],
        [1, 1, 0],
        [1, 2, 0],
        [1, 2, 1],
        [1, 3, 1],
        [1, 4, 1],
        [1, 4, 2],
        [1, 4, 3],
        [1, 4, 4],
        [1, 4, 4],
    ]


def test_zero_weights_come_last_and_in_tile_order() -> None:
    # No content at all: only the thumbnail has weight; afterwards tile 1, then tile 2 (ties at 0).
    nothing = np.zeros_like(EARLY)
    assert hired(nothing, FEATURE, SLOT, REGION, 3, 0.5) == [1, 2, 3]
    assert hired(nothing, FEATURE, SLOT, REGION, 6, 0.5) == [0, 1, 2, 3, 4, 7]
    assert hired(nothing, FEATURE, SLOT, REGION, 9, 0.5) == [0, 1, 2, 3, 4, 5, 6, 7, 10]
    assert hired_published(nothing, FEATURE, SLOT, REGION, 6, 0.5) == [1, 2, 3]
    # alpha 0: the thumbnail is the lowest tile of weight 0. alpha 1: the crops are.
    assert hired(EARLY, FEATURE, SLOT, REGION, 8, 0.0) == [4, 5, 8, 9, 6, 7, 10, 11]
    assert hired(EARLY, FEATURE, SLOT, REGION, 9, 0.0) == [1, 4, 5, 8, 9, 6, 7, 10, 11]
    assert hired(EARLY, FEATURE, SLOT, REGION, 5, 1.0) == [0, 1, 2, 3, 7]


def test_padding_is_skipped_even_with_the_best_score() -> None:
    slot = np.array([[0, 1, 2, 3], [4, 5, -1, -1], [6, -1, -1, -1]])
    feature = FEATURE.copy()
    feature[1, :, 2] = 100
    feature[2, :, 3] = np.nan  # padding values are never looked at
    # rankings: 1 3 2 0 | 4 5 | 8; seats 0 1 0 1 2 0 0
    assert hired(EARLY, feature, slot, REGION, 5, 0.5) == [1, 3, 4, 5, 8]
    assert hired(EARLY, feature, slot, REGION, 6, 0.5) == [1, 2, 3, 4, 5, 8]
    assert hired(EARLY, feature, slot, REGION, 99, 0.5) == [0, 1, 2, 3, 4, 5, 8]


def test_alpha_is_the_written_decimal() -> None:
    # 0.29 * 100 is 28.999... in binary
    assert published_seats([Fraction(0), Fraction(1)], [200, 200], 100, 0.29) == [29, 71]
    with pytest.raises(ValueError, match="alpha"):
        tile_weights([Fraction(0)], 1.5)


def test_uniform_by_hand() -> None:
    # slot order: 0 1 2 3 4 5 8 9 6 7 10 11 (M = 12)
    assert uniform(SLOT, 0) == []
    assert uniform(SLOT, 1) == [8]  # number 6
    assert uniform(SLOT, 5) == [1, 3, 8, 6, 10]  # 1.2 3.6 6 8.4 10.8
    assert uniform(SLOT, 8) == [0, 2, 3, 5, 8, 6, 7, 11]  # .75 2.25 3.75 5.25 6.75 8.25 9.75 11.25
    assert uniform(SLOT, 12) == uniform(SLOT, 13) == [0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11]


def test_random_by_hand() -> None:
    noise = np.array([[0.1, 0.9, 0.5, 0.2], [0.5, 0.3, 0.8, 0.0], [0.5, 0.7, 0.4, 0.6]])
    # descending: 1 6 9 11 2 4 8 10 ...  (2, 4, 8 tie at 0.5)
    assert random_by_scores(noise, SLOT, 0) == []
    assert random_by_scores(noise, SLOT, 3) == [1, 9, 6]
    assert random_by_scores(noise, SLOT, 6) == [1, 2, 4, 9, 6, 11]
    padded = SLOT.copy()
    padded[1, 2] = -1
    assert random_by_scores(noise, padded, 3) == [1, 9, 11]


# Thumbnail 2 x 2, mosaic 2 x 3 (the last column of tile 2 is padding): slots 4 5 6 nl / 8 9 10 nl,
# flat 4 5 8 / 6 7 10.
PADDED = np.array([[0, 1, 2, 3], [4, 5, 8, 9], [6, -1, 10, -1]])


@pytest.mark.parametrize(
    ("keep", "groups"),
    [
        (0, []),
        (1, [[0, 1, 2, 3]]),  # floor(.4 + .5) = 0, raised to 1
        (2, [[0, 1, 2, 3], [4, 5, 8, 6, 7, 10]]),
        (3, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 10]]),  # 1 + 2: sqrt(4/3) -> one band, cells floor(2x/3) = 0 0 1
        (5, [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10]]),  # 2 + 3: one band each
        (6, [[0, 2], [1, 3], [4, 5], [8], [6, 7], [10]]),  # 2 + 4: sqrt(8/3) = 1.63 -> two bands of two
        (9, [[0], [1], [2], [3], [4, 5], [8], [6], [7], [10]]),  # 4 + 5: two bands of 2 and 3
        (10, [[0], [1], [2], [3], [4], [5], [8], [6], [7], [10]]),
        (99, [[0], [1], [2], [3], [4], [5], [8], [6], [7], [10]]),
    ],
)
def test_downsample_by_hand(keep: int, groups: list[list[int]]) -> None:
    assert downsample(PADDED, (2, 3), 2, keep) == groups


def test_pooling_by_hand() -> None:
    # 3 x 3 into 5: sqrt(5) = 2.24 -> 2 bands; rows 0, 1 -> band 0 (2 cells), row 2 -> band 1 (3 cells)
    assert pooling_cells(3, 3, 5) == [
        [(0, 0), (0, 1), (1, 0), (1, 1)],
        [(0, 2), (1, 2)],
        [(2, 0)],
        [(2, 1)],
        [(2, 2)],
    ]
    # an exact half rounds up: sqrt(1 * 9 / 4) = 1.5 -> 2 bands, for one cell: band 0 has none and joins the next
    assert band_count(9, 4, 1) == 2
    assert pooling_cells(9, 4, 1) == [[(y, x) for y in range(9) for x in range(4)]]
    # more bands than cells (tall and narrow): sqrt(2 * 16 / 1) = 5.66 -> 6 bands, cells per band 0 0 1 0 0 1
    assert band_count(16, 1, 2) == 6
    assert [len(cell) for cell in pooling_cells(16, 1, 2)] == [8, 8]


def test_downsample_rejects_other_layouts() -> None:
    with pytest.raises(ValueError, match="newline"):
        downsample(PADDED, (3, 2), 2, 5)
    swapped = PADDED.copy()
    swapped[0] = [1, 0, 2, 3]
    with pytest.raises(ValueError, match="raster"):
        downsample(swapped, (2, 3), 2, 5)


# ------------------------------------------------------------------------------------------------------- properties


def picture(
    rng: np.random.Generator, rows: int, columns: int, p: int, absent: int = 0, crop: tuple[int, int] = (0, 0)
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """(slot, region, mosaic size) of rows x columns tiles of p x p tokens; `crop` rows / columns cut on each side."""
    tiles = 1 + rows * columns + absent
    slot = np.full((tiles, p * p), -1)
    region = np.zeros((tiles, p * p), dtype=np.float32)
    slot[0] = np.arange(p * p)
    height, width = rows * p - 2 * crop[0], columns * p - 2 * crop[1]
    for y in range(rows * p):
        for x in range(columns * p):
            yy, xx = y - crop[0], x - crop[1]
            if 0 <= yy < height and 0 <= xx < width:
                t = 1 + (y // p) * columns + x // p
                slot[t, (y % p) * p + x % p] = p * p + yy * (width + 1) + xx
    for y in range(p):
        for x in range(p):
            region[1 + (y * rows // p) * columns + x * columns // p, y * p + x] = 1
    return slot, region, (height, width)


SHAPES = [
    (1, 2, 4, 2, (0, 0)),
    (2, 1, 4, 2, (0, 1)),
    (2, 2, 4, 0, (1, 0)),
    (1, 3, 5, 1, (2, 0)),
    (3, 1, 3, 1, (0, 1)),
    (2, 2, 6, 3, (0, 4)),
]


@pytest.mark.parametrize(("rows", "columns", "p", "absent", "crop"), SHAPES)
def test_properties_of_token_selection(rows: int, columns: int, p: int, absent: int, crop: tuple[int, int]) -> None:
    rng = np.random.default_rng(rows * 100 + columns * 10 + p)
    slot, region, _ = picture(rng, rows, columns, p, absent, crop)
    tiles, tokens = slot.shape
    found = candidates_by_slot(slot)
    for keep in (0, 1, 2, 3, 7, 13, len(found) // 2, len(found) - 1, len(found), len(found) + 5):
        for alpha in (0.0, 0.3, 0.5, 1.0):
            early = rng.random((3, tokens)).astype(np.float32) ** 4
            feature = rng.random((tiles, 3, tokens)).astype(np.float32)
            ranked = ranked_candidates(feature, slot)
            chosen = hired(early, feature, slot, region, keep, alpha)
            published = hired_published(early, feature, slot, region, keep, alpha)
            noise = rng.random((tiles, tokens))
            drawn = random_by_scores(noise, slot, keep)
            spread = uniform(slot, keep)
            for result in (chosen, drawn, spread):
                assert len(result) == min(keep, len(found))
            assert len(published) <= keep
            for result in (chosen, published, drawn, spread):
                slots = [int(slot.flat[i]) for i in result]
                assert all(s >= 0 for s in slots)
                assert slots == sorted(set(slots))
            for result in (chosen, published):  # each tile gives its best candidates
                for t in range(tiles):
                    mine = {i for i in result if i // tokens == t}
                    assert mine == set(ranked[t][: len(mine)])
            # one more seat never removes a token
            assert set(chosen) <= set(hired(early, feature, slot, region, keep + 1, alpha))
            left = [i for i in found if i not in set(drawn)]
            if left and drawn:
                assert min(noise.flat[i] for i in drawn) >= max(noise.flat[i] for i in left)


def test_seats_are_a_divisor_rounding_and_stay_near_the_share() -> None:
    rng = np.random.default_rng(7)
    for _ in range(1500):
        tiles = int(rng.integers(2, 8))
        mass = [Fraction(0)] + [Fraction(int(v)) for v in rng.integers(0, 1000, tiles - 1)]
        if sum(mass) == 0:
            mass[1] = Fraction(1)
        keep = int(rng.integers(1, 60))
        alpha = Fraction(int(rng.integers(0, 21)), 20)
        weights = tile_weights(mass, alpha)
        assert sum(weights) == 1
        seats = sainte_lague(weights, [keep] * tiles, keep)
        assert sum(seats) == keep
        # min-max condition of Webster / Sainte-Lague: nobody's last quotient is below anybody's next one
        last = [w / (s - Fraction(1, 2)) for w, s in zip(weights, seats, strict=True) if s > 0]
        coming = [w / (s + Fraction(1, 2)) for w, s in zip(weights, seats, strict=True)]
        assert min(last) >= max(coming)
        # seats = rounding of w / d with |1 / d - keep| <= T / 2
        for w, s in zip(weights, seats, strict=True):
            assert abs(s - w * keep) <= Fraction(1, 2) + w * Fraction(tiles, 2)
        # against the floor rule without caps: total and every tile differ by less than T
        floors = published_seats(mass, [keep] * tiles, keep, alpha)
        assert 0 <= keep - sum(floors) < tiles
        assert all(abs(a - b) < tiles for a, b in zip(seats, floors, strict=True))


def test_capacities_are_respected_and_the_rest_is_webster() -> None:
    rng = np.random.default_rng(8)
    for _ in range(1500):
        tiles = int(rng.integers(1, 8))
        weights = [Fraction(int(v), 1000) for v in rng.integers(0, 1000, tiles)]
        room = [int(v) for v in rng.integers(0, 12, tiles)]
        keep = int(rng.integers(0, sum(room) + 4))
        seats = sainte_lague(weights, room, keep)
        assert all(0 <= s <= r for s, r in zip(seats, room, strict=True))
        assert sum(seats) == min(keep, sum(room))
        # closed form: the `keep` largest keys w / (rank + 1/2) over (tile, rank), ties by tile
        keys = sorted((-w / (j + Fraction(1, 2)), t, j) for t, w in enumerate(weights) for j in range(room[t]))
        assert seats == [sum(1 for _, t, _ in keys[:keep] if t == tile) for tile in range(tiles)]


def test_pooling_has_no_empty_cell_for_every_small_grid() -> None:
    for height in range(1, 15):
        for width in range(1, 15):
            for cells in range(height * width + 1):
                groups = pooling_cells(height, width, cells)
                assert len(groups) == cells
                assert all(groups)
                if cells:
                    assert sorted(yx for cell in groups for yx in cell) == [
                        (y, x) for y in range(height) for x in range(width)
                    ]


@pytest.mark.parametrize(("height", "width"), [(24, 24), (48, 48), (36, 48), (48, 20), (1, 72), (72, 1), (72, 2)])
def test_pooling_has_no_empty_cell_for_real_grids(height: int, width: int) -> None:
    for cells in sorted({*range(0, height * width + 1, 13), 1, 2, 3, height * width - 1, height * width}):
        groups = pooling_cells(height, width, cells)
        assert len(groups) == cells
        assert all(groups)
        assert sum(len(cell) for cell in groups) == (height * width if cells else 0)


def test_integer_forms_equal_the_written_formulas() -> None:
    for height in range(1, 40, 3):
        for width in range(1, 40, 3):
            for cells in range(1, height * width + 1, 7):
                r = math.floor(math.sqrt(cells * height / width) + 0.5)
                r = max(min(max(r, math.ceil(cells / width)), height), 1)
                assert band_count(height, width, cells) == r


def test_split_is_exact_and_within_both_parts() -> None:
    for thumb in (1, 4, 9, 16, 25):
        for mosaic in range(40):
            for keep in range(thumb + mosaic):
                a, b = split_keep(thumb, mosaic, keep)
                assert a + b == keep
                assert 0 <= a <= thumb
                assert 0 <= b <= mosaic
                assert a >= 1 or keep == 0
                # the last correction of the rule never has anything to do
                rounded = min(max(math.floor(Fraction(keep * thumb, thumb + mosaic) + Fraction(1, 2)), 1), thumb, keep)
                assert a == rounded


@pytest.mark.parametrize(("rows", "columns", "p", "absent", "crop"), SHAPES)
def test_downsample_uses_every_candidate_once(
    rows: int, columns: int, p: int, absent: int, crop: tuple[int, int]
) -> None:
    slot, _, mosaic = picture(np.random.default_rng(0), rows, columns, p, absent, crop)
    found = candidates_by_slot(slot)
    for keep in range(len(found) + 2):
        groups = downsample(slot, mosaic, p, keep)
        assert len(groups) == min(keep, len(found))
        assert all(groups)
        used = sorted(i for group in groups for i in group)
        if keep >= 2:
            assert used == sorted(found)
        elif keep == 1:
            assert used == list(range(p * p))
        for group in groups:
            slots = [int(slot.flat[i]) for i in group]
            assert slots == sorted(slots)
            assert (max(slots) < p * p) == (min(slots) < p * p)  # thumbnail and mosaic are never mixed


def test_downsample_without_crops() -> None:
    slot = np.array([[0, 1, 2, 3], [-1, -1, -1, -1]])
    assert downsample(slot, (0, 0), 2, 2) == [[0, 2], [1, 3]]
    assert downsample(slot, (0, 0), 2, 4) == [[0], [1], [2], [3]]
