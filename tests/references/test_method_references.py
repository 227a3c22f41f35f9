"""Hand-computed cases of the references that rank tokens. Readings are binary fractions, so that ties are true ties."""

from __future__ import annotations

import numpy as np
import pytest

from .attention import damro, fastervlm, hired_repository, vtc_cls
from .drawn import layout
from .picture import Array, Picture, Row, apportion, evenly_spaced, floor_share, share_out
from .received import (
    anchor_count,
    fopru,
    fopru_row,
    hiprune,
    neighbours_in_raster,
    object_layer_of,
    received,
    received_from_all,
    sink_importance,
    vflowopt,
)

F = 3  # feature layer of the hand-made pictures
LAYERS = {"feature_layer": F, "last_layer": F + 1}
# Three tiles of four tokens. Slots: thumbnail 0..3; two crops side by side stitched to a 2 x 4 mosaic:
#   4 5 | 6 7 nl     9 10 | 11 12 nl
SLOT = np.array([[0, 1, 2, 3], [4, 5, 9, 10], [6, 7, 11, 12]])


def one_tile(tokens: int, **readings: object) -> Picture:
    return Picture(np.zeros((1, tokens, 2), np.float32), np.arange(tokens)[None, :], **readings)  # type: ignore[arg-type]


def places(rows: list[Row]) -> list[int]:
    assert all(weights == {i: 1.0} for i, weights in rows)
    return [i for i, _ in rows]


def same_rows(values: list[float]) -> Array:
    """A map [1, N + 1, N] in which every query has the same row: attention received is that row, cast is constant."""
    return np.array([[values] * (len(values) + 1)], dtype=np.float32)


# ------------------------------------------------------------------------------------------------------------ shared


def test_shares_by_hand() -> None:
    # quotients 2, 2/3, 2/5 in every tile; ties to the lower tile: 0 1 2 | 0 (1 is full) 2 | 0 2 | 0 2
    assert [apportion([4, 1, 4], keep) for keep in range(1, 7)] == [
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 1],
        [2, 1, 1],
        [2, 1, 2],
        [3, 1, 2],
    ]
    assert apportion([4, 1, 4], 99) == [4, 1, 4]
    assert apportion([0, 3], 2) == [0, 2]
    assert share_out([[3, 1, 0], [], [8, 7]], 3) == [3, 1, 8]


def test_written_shares_and_spacing() -> None:
    assert [floor_share(k, 10 / 64) for k in (64, 128, 192)] == [10, 20, 30]  # VisionZip's 54 + 10, 108 + 20, 162 + 30
    assert floor_share(100, 0.29) == 29  # 28.99... in binary
    assert evenly_spaced(3, 8) == [1, 4, 6]  # 4/3, 4, 20/3
    assert evenly_spaced(0, 8) == []


def test_coordinates() -> None:
    # one row of padding above and below a 1 x 2 grid of 3 x 3 tiles: the mosaic is 1 x 6
    slot, region, mosaic = layout((1, 2), 3, crop=(1, 0))
    assert mosaic == (1, 6)
    assert slot[1].tolist() == [-1, -1, -1, 9, 10, 11, -1, -1, -1]
    assert slot[2].tolist() == [-1, -1, -1, 12, 13, 14, -1, -1, -1]
    picture = Picture(np.zeros((3, 9, 2)), slot, region, mosaic)
    assert [picture.mosaic_row_column(i) for i in (12, 14, 21)] == [(0, 0), (0, 2), (0, 3)]
    assert picture.patch_row_column(7) == (2, 1)
    # two whole tiles beside each other, first without, then behind a thumbnail
    picture = Picture(np.zeros((2, 9, 2)), np.arange(18).reshape(2, 9), grid=(1, 2), whole=False)
    assert [picture.mosaic_row_column(i) for i in (0, 5, 9, 17)] == [(0, 0), (1, 2), (0, 3), (2, 5)]
    assert picture.is_crop(0)
    picture = Picture(np.zeros((3, 9, 2)), np.roll(np.arange(27).reshape(3, 9), 1, axis=0), grid=(2, 1))
    assert [picture.mosaic_row_column(i) for i in (9, 14, 18, 26)] == [(0, 0), (1, 2), (3, 0), (5, 2)]
    assert not picture.is_crop(8)
    with_extra = one_tile(10)
    assert (with_extra.side, with_extra.extra) == (3, 1)
    assert [with_extra.patch(i) for i in (0, 1, 2, 9)] == [0, 0, 1, 8]
    with pytest.raises(ValueError, match="newlines"):
        Picture(np.zeros((3, 9, 2)), slot, region, (1, 3)).mosaic_row_column(21)


# --------------------------------------------------------------------------------------------------- class attention


def test_fastervlm_by_hand() -> None:
    # head sums: 2 4 4 2 -> 1 2 0 3;  5 1 and padding -> 4 5
    attention = np.array([[[1, 2, 3, 1], [1, 2, 1, 1]], [[4, 0, 9, 9], [1, 1, 9, 9]]], dtype=np.float32) / 16
    slot = np.array([[0, 1, 2, 3], [4, 5, -1, -1]])
    picture = Picture(np.zeros((2, 4, 2)), slot, attention={F: attention}, heads=2)
    kept = [places(fastervlm(picture, keep, **LAYERS)) for keep in range(8)]
    assert kept[:5] == [[], [1], [1, 4], [1, 2, 4], [1, 2, 4, 5]]
    assert kept[5] == [0, 1, 2, 4, 5]  # the crop has nothing more to give
    assert kept[6] == kept[7] == [0, 1, 2, 3, 4, 5]


def test_vtc_cls_by_hand() -> None:
    rows = {0: [0, 0, 0, 0], 1: [0, 0, 0, 8], 2: [1, 4, 0, 0], 3: [4, 0, 3, 0], 4: [0, 99, 0, 0]}
    attention = {layer: np.array([[row, row]], dtype=np.float32) for layer, row in rows.items()}
    picture = one_tile(4, attention=attention, heads=2)
    # window 1: 4 0 3 0; 2: 5 4 3 0; 3: 5 4 3 8; 9: as far down as there are layers
    for window, kept in ((1, [0, 2]), (2, [0, 1]), (3, [0, 3]), (9, [0, 3])):
        assert places(vtc_cls(picture, 2, **LAYERS, window=window)) == kept


def test_damro_by_hand() -> None:
    picture = one_tile(5, wide={F + 1: np.array([[9, 7, 5, 3, 1]], dtype=np.float32)})
    assert places(damro(picture, 3, **LAYERS, outliers=2)) == [2, 3, 4]  # order 2 3 4 | 0 1
    assert places(damro(picture, 4, **LAYERS, outliers=2)) == [0, 2, 3, 4]
    for outliers in (0, 5, 10):  # none, or nothing but outliers: the plain order
        assert places(damro(picture, 3, **LAYERS, outliers=outliers)) == [0, 1, 2]


def test_hired_repository_by_hand() -> None:
    # N = 4, two crops side by side. True regions: columns (patches 0 2 | 1 3); the repository's stripes: rows (0 1 | 2 3)
    region = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.float32)
    early = np.array([[[3, 2, 1, 0]]] * 3, dtype=np.float32)
    # rankings: 1 3 2 0 | 7 4 5 6 | 10 9 11 8
    late = np.array([[[1, 4, 2, 3]], [[5, 5, 1, 9]], [[0, 2, 8, 2]]], dtype=np.float32)
    picture = Picture(np.zeros((3, 4, 2)), SLOT, region, (2, 4), attention={0: early, F: late})
    settings = {"early_layer": 0, "feature_layer": F}

    # top floor(4 / 2) = patches 0 1, both in the first stripe: 3 for the thumbnail, 3 and 0 for the crops
    assert hired_repository(picture, 6, **settings, alpha=0.5) == [1, 2, 3, 4, 5, 7]
    # the caps: thumbnail 6 -> 4, first crop 8 -> 4, nothing is given out again
    assert hired_repository(picture, 12, **settings, alpha=0.5) == [0, 1, 2, 3, 4, 5, 6, 7]
    # floor(4 * 3/4) = patches 0 1 2: 1 | 2/3 and 1/3 of 4, floors 2 and 1: one token is lost
    assert hired_repository(picture, 5, **settings, alpha=0.25) == [1, 4, 7, 10]
    assert hired_repository(picture, 3, **settings, alpha=1.0) == [1, 2, 3]
    # flat 7, the best of its crop, lies in padding: chosen, then lost
    padded = SLOT.copy()
    padded[1, 3] = -1
    picture = Picture(np.zeros((3, 4, 2)), padded, region, (2, 4), attention={0: early, F: late})
    assert hired_repository(picture, 6, **settings, alpha=0.5) == [1, 2, 3, 4, 5]
    single = one_tile(4, attention={F: late[:1]}, region=np.zeros((1, 4)))
    assert hired_repository(single, 3, **settings, alpha=0.5) == [1, 2, 3]


# ------------------------------------------------------------------------------------------------ attention received


def test_received_by_hand() -> None:
    reading = np.array([[1, 4, 2, 2], [9, 3, 0, 0]], np.float32) / 16
    picture = Picture(np.zeros((2, 4, 2)), np.array([[0, 1, 2, 3], [-1, 4, 5, 6]]), received={F: reading})
    # rankings 1 2 3 0 | 5 6 7, whose best has no slot
    kept = [places(received(picture, keep, **LAYERS)) for keep in (1, 2, 3, 5, 6)]
    assert kept == [[1], [1, 5], [1, 2, 5], [1, 2, 3, 5, 6], [1, 2, 3, 5, 6, 7]]


def test_fopru_by_hand() -> None:
    # received sums: 8 3 2 3 (quarters), cast constant -> received; the class token's row would say 2
    weights = np.array([[[0, 0, 4, 0], [2, 1, 0, 1], [2, 1, 0, 1], [2, 1, 1, 0], [2, 0, 1, 1]]], np.float32) / 4
    picture = one_tile(4, maps={F: weights})
    assert places(fopru(picture, 2, **LAYERS)) == [0, 1]
    assert places(fopru(picture, 3, **LAYERS)) == [0, 1, 3]
    assert places(fopru(picture, 3, **LAYERS, side=2)) == [0, 1, 2]  # all equal: lower index
    # every query spreads evenly what the class token leaves it: received constant, cast 1 4 2 4 (sixteenths)
    weights = np.array([[[0] * 4, [1] * 4, [4] * 4, [2] * 4, [4] * 4]], np.float32) / 16
    picture = one_tile(4, maps={F: weights})
    assert [places(fopru(picture, keep, **LAYERS)) for keep in (1, 2, 3)] == [[1], [1, 3], [1, 2, 3]]
    assert places(fopru(picture, 2, **LAYERS, side=1)) == [0, 1]


def test_fopru_leaves_padding_out_of_both_means() -> None:
    # without token 3: received sums 3 2 1, cast 2 each. Its query would lift token 2, its key the cast of token 1.
    weights = np.array([[[0] * 4, [1, 1, 0, 0], [1, 1, 0, 9], [1, 0, 1, 0], [0, 0, 9, 0]]], np.float32) / 16
    picture = Picture(np.zeros((1, 4, 2)), np.array([[0, 1, 2, -1]]), maps={F: weights})
    assert places(fopru(picture, 1, **LAYERS)) == [0]
    assert places(fopru(picture, 2, **LAYERS)) == [0, 1]


def test_fopru_row_by_hand() -> None:
    # row means 1/3, 2, 5/3: rows 1 2 0
    picture = one_tile(9, maps={F: same_rows([1, 0, 0, 2, 2, 2, 5, 0, 0])})
    kept = {keep: places(fopru_row(picture, keep, **LAYERS)) for keep in (2, 3, 4, 5, 7)}
    assert kept == {2: [3, 4], 3: [3, 4, 5], 4: [3, 4, 5, 6], 5: [3, 4, 5, 6, 7], 7: [0, 3, 4, 5, 6, 7, 8]}
    # with a token in front, which lies in row 0: means (9 + 1) / 4, 2, 5/3
    picture = one_tile(10, maps={F: same_rows([9, 1, 0, 0, 2, 2, 2, 5, 0, 0])})
    assert places(fopru_row(picture, 3, **LAYERS)) == [0, 1, 2]
    # a row is judged by its candidates only: row 0 has token 0 left (mean 1), row 2 mean 5/3
    slot = np.array([[0, -1, -1, 3, 4, 5, 6, 7, 8]])
    picture = Picture(np.zeros((1, 9, 2)), slot, maps={F: same_rows([1, 0, 0, 2, 2, 2, 3, 1, 1])})
    assert places(fopru_row(picture, 6, **LAYERS)) == [3, 4, 5, 6, 7, 8]
    assert places(fopru_row(picture, 2, **LAYERS)) == [3, 4]


def test_hiprune_numbers_of_the_source() -> None:
    assert (anchor_count(192, 0.1), anchor_count(64, 0.1)) == (4, 1)
    assert [anchor_count(k, 0.1) for k in (25, 75, 125, 175)] == [0, 2, 2, 4]  # halves go to the even number
    assert object_layer_of(22) == 8  # layer 9 of 24, counted from 1
    assert object_layer_of(0) == 0


def test_hiprune_neighbours() -> None:
    assert neighbours_in_raster(5, 4) == {4, 6, 1, 9}
    assert neighbours_in_raster(4, 4) == {3, 5, 0, 8}  # left of a row's start: the end of the row above
    assert neighbours_in_raster(0, 4) == {0, 1, 4}
    assert neighbours_in_raster(15, 4) == {14, 15, 11}


def test_hiprune_by_hand() -> None:
    shallow = [0.0] * 16
    shallow[5] = 1
    deep = [n / 64 for n in range(16)]
    picture = one_tile(16, maps={1: same_rows(shallow), F: same_rows(deep)})
    settings = {**LAYERS, "object_layer": 1, "alpha_anchor": 1.0}
    assert places(hiprune(picture, 5, **settings)) == [1, 4, 5, 6, 9]  # round(5 / 5) = 1 anchor and its buffers
    assert places(hiprune(picture, 7, **settings)) == [1, 4, 5, 6, 9, 14, 15]  # round(7 / 5) = 1
    assert places(hiprune(picture, 2, **settings)) == [14, 15]  # round(2 / 5) = 0
    assert places(hiprune(picture, 3, **settings)) == [5, 6, 9]  # round(3 / 5) = 1: forced ones by the deep score
    # the default object layer for f = 3 is round(36 / 23) - 1 = 1
    assert places(hiprune(picture, 7, **LAYERS, alpha_anchor=1.0)) == [1, 4, 5, 6, 9, 14, 15]
    # token in front of 3 x 3 patches as the anchor: it lies at patch 0, whose clamped neighbours are patches 0 1 3
    picture = one_tile(10, maps={1: same_rows([1] + [0] * 9), F: same_rows([0] * 10)})
    assert places(hiprune(picture, 5, **settings)) == [0, 1, 2, 3, 4]  # forced 0 1 2 4, then token 3 by index
    # padded buffers do not use up the budget: 6 and 9 have no slot
    slot = np.array([[0, 1, 2, 3, 4, 5, -1, 7, 8, -1, 10, 11, 12, 13, 14, 15]])
    picture = Picture(np.zeros((1, 16, 2)), slot, maps={1: same_rows(shallow), F: same_rows(deep)})
    assert places(hiprune(picture, 5, **settings)) == [1, 4, 5, 14, 15]


def test_received_counts_every_query() -> None:
    weights = np.array([[[4, 0], [1, 2], [1, 1]]], np.float32)
    assert received_from_all(one_tile(2, maps={F: weights}), F) == [2, 1]


S = [16, 1, 2, 3, 1, 2, 3, 2, 4, 4, 8, 1, 0, 0, 0, 0]  # importance of 4 x 4 patches, in 64ths


def test_vflowopt_by_hand() -> None:
    picture = one_tile(16, maps={F: same_rows([s / 64 for s in S])})
    # cells of 2 x 2: e = 16 / 4 = 4. Two stay: 0 10. Heads of the rest: 5; 3 (tied with 6); 8 (tied with 9); 11
    assert vflowopt(picture, 6, **LAYERS, cell=2) == [
        (0, {0: 1.0}),
        (3, {2: 0.2, 3: 0.3, 6: 0.3, 7: 0.2}),
        (5, {1: 0.25, 4: 0.25, 5: 0.5}),
        (8, {8: 0.5, 9: 0.5, 12: 0.0, 13: 0.0}),
        (10, {10: 1.0}),
        (11, {11: 1.0, 14: 0.0, 15: 0.0}),
    ]
    # e = K = 3: nothing stays whole; heads by importance 0 10 8 | 3
    rows = dict(vflowopt(picture, 3, **LAYERS, cell=2))
    assert list(rows) == [0, 8, 10]
    assert rows[0] == {0: 16 / 20, 1: 1 / 20, 4: 1 / 20, 5: 2 / 20}
    assert rows[10] == {10: 8 / 9, 11: 1 / 9, 14: 0, 15: 0}
    # K = 14: ten stay (0 10 8 9 3 6 2 5 7 1); rest 4 | 12 13 | 11 14 15: heads 4 11 12, and 13 as it is
    rows = dict(vflowopt(picture, 14, **LAYERS, cell=2))
    assert list(rows) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert (rows[4], rows[11]) == ({4: 1.0}, {11: 1.0, 14: 0.0, 15: 0.0})
    assert (rows[12], rows[13]) == ({12: 1.0}, {13: 1.0})  # all importance 0: the head stays as it is
    # a cell larger than the picture's share: no token is recycled
    assert places(vflowopt(picture, 3, **LAYERS)) == [0, 8, 10]


def test_vflowopt_sinks_and_entropy() -> None:
    # received sums (eighths) 3 8 14 7: sinks 2, then 1
    weights = np.array([[[8, 0, 0, 0], [0, 2, 4, 2], [2, 0, 4, 2], [1, 4, 2, 1], [0, 2, 4, 2]]], np.float32) / 8
    picture = one_tile(4, maps={F: weights}, entropy=np.array([[9, 0, 0, 0]], np.float32))
    assert sink_importance(picture, F, 1, 0.0) == {0: 1 / 8, 1: 4 / 8, 2: 2 / 8, 3: 1 / 8}
    assert sink_importance(picture, F, 2, 0.0) == {0: 3 / 16, 1: 4 / 16, 2: 6 / 16, 3: 3 / 16}
    assert places(vflowopt(picture, 2, **LAYERS, sinks=1)) == [1, 2]
    assert places(vflowopt(picture, 1, **LAYERS, sinks=2)) == [2]
    assert places(vflowopt(picture, 1, **LAYERS, sinks=2, entropy_weight=1.0)) == [0]  # softmax of 9 0 0 0 is about 1


def test_vflowopt_cells_of_the_mosaic_ignore_tile_borders() -> None:
    # mosaic 2 x 2 of two crops with a column of padding on each side; one cell covers it, flat 5 7 | 8 10
    slot, region, mosaic = layout((1, 2), 2, crop=(0, 1))
    assert mosaic == (2, 2)
    rows = [[8, 8, 8, 8], [0, 3, 0, 1], [2, 0, 2, 0]]
    maps = np.array([[row] * 5 for row in rows], np.float32) / 32
    picture = Picture(np.zeros((3, 4, 2)), slot, region, mosaic, maps={F: maps})
    # A = 8, cell 2: e = 2 = K; heads 0 (thumbnail, 8 each) and 5 (3 1 2 2)
    kept = vflowopt(picture, 2, **LAYERS, cell=2)
    assert kept == [(0, {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}), (5, {5: 3 / 8, 7: 1 / 8, 8: 2 / 8, 10: 2 / 8})]
