"""The layout equals transformers' packing, token for token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_runtime.errors import ImageError, RequestError
from edgeprune_runtime.pictures.packed import Layout, layout_from_size
from edgeprune_runtime.pictures.tiling.anyres import placement_from_size
from edgeprune_runtime.spec import Preprocess

torch = pytest.importorskip("torch")
modeling = pytest.importorskip("transformers.models.llava_next.modeling_llava_next")

NEWLINE = -7
GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (2, 3), (3, 2))
sides = st.one_of(st.integers(1, 60), st.integers(1, 2000))
grids = st.lists(st.sampled_from(GRIDS), min_size=1, max_size=6, unique=True)


def preprocess_of(patches: int, grid: tuple[tuple[int, int], ...] = GRIDS, patch_px: int = 14) -> Preprocess:
    px = patches * patch_px
    return Preprocess(
        anyres=True,
        tile_px=px,
        patches=patches,
        pinpoints=tuple((rows * px, cols * px) for rows, cols in grid),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


SINGLE = Preprocess(
    anyres=False, tile_px=84, patches=6, pinpoints=(), mean=(0.5,) * 3, std=(0.5,) * 3, resize_shortest=84
)


def packed_by_library(height: int, width: int, preprocess: Preprocess, tiles: int) -> Any:
    """Features that are their own flat index t*N+n, packed by the library."""
    config = SimpleNamespace(
        vision_config=SimpleNamespace(
            image_size=preprocess.tile_px, patch_size=preprocess.tile_px // preprocess.patches
        ),
        image_grid_pinpoints=[list(pinpoint) for pinpoint in preprocess.pinpoints],
    )
    tokens = preprocess.tokens_per_tile
    features = torch.arange(tiles * tokens).reshape(tiles, tokens, 1)
    packed, lengths = modeling.LlavaNextModel.pack_image_features(
        SimpleNamespace(config=config), [features], torch.tensor([[height, width]]), "default", torch.tensor([NEWLINE])
    )
    assert lengths.tolist() == [len(packed[0])]
    return packed[0][:, 0].numpy()


def packed_by_layout(layout: Layout) -> Any:
    packed = np.full(layout.length, -99)
    flat = layout.slot.ravel()
    packed[flat[flat >= 0]] = np.flatnonzero(flat >= 0)
    packed[layout.newline_slots] = NEWLINE
    return packed


@settings(max_examples=150, deadline=None, derandomize=True)
@given(height=sides, width=sides, patches=st.sampled_from([2, 3, 6, 7, 24]), grid=grids)
def test_packing_equals_the_library(height: int, width: int, patches: int, grid: list[tuple[int, int]]) -> None:
    preprocess = preprocess_of(patches, tuple(grid))
    layout = layout_from_size(height, width, preprocess)
    assert np.array_equal(packed_by_layout(layout), packed_by_library(height, width, preprocess, layout.tiles))


@pytest.mark.parametrize("patches", [6, 24])
def test_packing_equals_the_library_on_a_dense_sweep(patches: int) -> None:
    preprocess = preprocess_of(patches)
    for height in range(200, 1300, 171):
        for width in range(190, 1300, 97):
            layout = layout_from_size(height, width, preprocess)
            assert np.array_equal(packed_by_layout(layout), packed_by_library(height, width, preprocess, layout.tiles))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(height=sides, width=sides, patches=st.sampled_from([2, 3, 6]), grid=grids)
def test_slots_and_newlines_fill_the_sequence_once(
    height: int, width: int, patches: int, grid: list[tuple[int, int]]
) -> None:
    preprocess = preprocess_of(patches, tuple(grid))
    layout = layout_from_size(height, width, preprocess)
    used = layout.slot[layout.slot >= 0]
    assert sorted([*used.tolist(), *layout.newline_slots.tolist()]) == list(range(layout.length))
    assert layout.slot.shape == (preprocess.tiles_max, preprocess.tokens_per_tile)
    assert layout.slot.dtype == np.int64 and layout.newline_slots.dtype == np.int64
    assert (layout.slot[layout.tiles :] == -1).all()
    assert int((layout.slot[1:] >= 0).sum()) == layout.mosaic[0] * layout.mosaic[1]
    assert len(layout.newline_slots) == layout.mosaic[0]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(height=sides, width=sides, patches=st.sampled_from([2, 3, 6]), grid=grids)
def test_every_thumbnail_patch_lies_in_exactly_one_tile(
    height: int, width: int, patches: int, grid: list[tuple[int, int]]
) -> None:
    preprocess = preprocess_of(patches, tuple(grid))
    layout = layout_from_size(height, width, preprocess)
    assert layout.region.dtype == np.float32
    assert (layout.region[0] == 0).all() and (layout.region[layout.tiles :] == 0).all()
    assert (layout.region[1:].sum(axis=0) == 1).all()


@pytest.mark.parametrize("beyond", [0, 3])
def test_region_follows_the_patch_centres(beyond: int) -> None:
    whole = preprocess_of(4, ((2, 2),))
    tile = whole.tile_px + beyond  # pixels that belong to no patch, as SigLIP has
    preprocess = msgspec.structs.replace(whole, tile_px=tile, pinpoints=((2 * tile, 2 * tile),))
    share = preprocess.patch_px / tile
    layout = layout_from_size(300, 700, preprocess)
    place = placement_from_size(300, 700, preprocess)
    for row in range(4):
        for col in range(4):
            y = place.top + (row + 0.5) * share * place.height
            x = place.left + (col + 0.5) * share * place.width
            tile = 1 + int(y // preprocess.tile_px) * 2 + int(x // preprocess.tile_px)
            assert layout.region[tile, row * 4 + col] == 1.0


def test_a_wide_thin_picture_keeps_only_the_thumbnail() -> None:
    layout = layout_from_size(30, 900, preprocess_of(6, ((2, 2),)))
    assert layout.mosaic == (0, 12)
    assert layout.length == 36 and len(layout.newline_slots) == 0


def test_a_tall_thin_picture_keeps_only_newlines() -> None:
    layout = layout_from_size(900, 30, preprocess_of(6, ((2, 2),)))
    assert layout.mosaic == (12, 0)
    assert layout.newline_slots.tolist() == list(range(36, 48)) and layout.length == 48


def test_a_square_picture_in_a_square_grid_has_a_small_golden_layout() -> None:
    layout = layout_from_size(50, 50, preprocess_of(2, ((2, 2),)))
    assert layout.grid == (2, 2) and layout.tiles == 5 and layout.mosaic == (4, 4)
    assert layout.slot.tolist() == [[0, 1, 2, 3], [4, 5, 9, 10], [6, 7, 11, 12], [14, 15, 19, 20], [16, 17, 21, 22]]
    assert layout.newline_slots.tolist() == [8, 13, 18, 23]
    assert layout.region[1:].tolist() == np.eye(4).tolist()


def test_llava_1_5_has_its_tokens_in_order_and_no_newline() -> None:
    layout = layout_from_size(100, 200, SINGLE)
    assert layout.slot.tolist() == [list(range(36))]
    assert layout.region.tolist() == [[0.0] * 36]
    assert (layout.grid, layout.mosaic, layout.tiles, layout.length) == ((0, 0), (0, 0), 1, 36)
    assert layout.newline_slots.shape == (0,)


def test_triples_name_tile_row_and_column() -> None:
    layout = layout_from_size(50, 50, preprocess_of(2, ((2, 2),)))
    assert layout.triples([0, 3, 6, 19, -1]) == ((0, 0, 0), (0, 1, 1), (1, 1, 0), (4, 1, 1))
    assert layout.triples(np.array([5])) == ((1, 0, 1),)


@pytest.mark.parametrize("index", [20, -2])
def test_an_index_of_another_model_is_refused(index: int) -> None:
    layout = layout_from_size(50, 50, preprocess_of(2, ((2, 2),)))
    with pytest.raises(RequestError, match="expected 0 to 19"):
        layout.triples([index])


def test_the_arrays_cannot_be_changed() -> None:
    layout = layout_from_size(50, 50, preprocess_of(2))
    for array in (layout.slot, layout.region, layout.newline_slots):
        with pytest.raises(ValueError):
            array[...] = 0


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(ImageError):
        layout_from_size(0, 5, preprocess_of(2))
