"""A packed picture equals transformers' packing, token for token, and the plain loops of the reference for every family."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeprune_runtime.errors import ImageError, RequestError
from edgeprune_runtime.pictures.packed import ALWAYS, PackedPicture, pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec, SequenceSpec
from edgeprune_runtime.pictures.tiling import Anyres, Single, TileSpec
from tests.references.packing import Item, picture_items
from tests.tilings import MOSAIC, NAMED, PLAIN, WRAPPED, canvases, pictures_of, tile_spec

torch = pytest.importorskip("torch")
next_modeling = pytest.importorskip("transformers.models.llava_next.modeling_llava_next")
onevision_modeling = pytest.importorskip("transformers.models.llava_onevision.modeling_llava_onevision")

NEWLINE = -7
GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (2, 3), (3, 2))
FAMILIES = tuple(pictures_of())
sides = st.one_of(st.integers(1, 60), st.integers(1, 2000))
grids = st.lists(st.sampled_from(GRIDS), min_size=1, max_size=6, unique=True)


def mosaic(patches: int, grid: tuple[tuple[int, int], ...] = GRIDS, px: int | None = None) -> PictureSpec:
    """LLaVA-NeXT's pictures with tiles of patches x patches."""
    px = px or patches * 14
    return PictureSpec(tile_spec(px, patches), canvases(px, *grid), MOSAIC)


def packed(height: int, width: int, spec: PictureSpec, tiles: int | None = None) -> PackedPicture:
    return pack_picture(spec.limited(tiles).place(height, width), spec)


def by_library(height: int, width: int, spec: PictureSpec, tiles: int, family: Any = None) -> Any:
    """Features that are their own flat index t*N+n, packed by the library."""
    assert isinstance(spec.tiling, Anyres)
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=spec.tile.px, patch_size=spec.tile.px // spec.tile.patches),
        image_grid_pinpoints=[list(pinpoint) for pinpoint in spec.tiling.pinpoints],
    )
    features = torch.arange(tiles * spec.tile.units).reshape(tiles, spec.tile.units, 1)
    sizes, newline = torch.tensor([[height, width]]), torch.tensor([NEWLINE])
    if family == "llava_onevision":
        pack = onevision_modeling.LlavaOnevisionModel.pack_image_features
        rows, lengths = pack(SimpleNamespace(config=config), [features], sizes, newline, "anyres_max_9")
    else:
        pack = next_modeling.LlavaNextModel.pack_image_features
        rows, lengths = pack(SimpleNamespace(config=config), [features], sizes, "default", newline)
    assert lengths.tolist() == [len(rows[0])]
    return rows[0][:, 0].numpy()


def by_ours(picture: PackedPicture) -> Any:
    return np.where(picture.unit >= 0, picture.unit, NEWLINE)


# --------------------------------------------------------------------------------------------------------- the library


@settings(max_examples=150, deadline=None, derandomize=True)
@given(height=sides, width=sides, patches=st.sampled_from([2, 3, 6, 7, 24]), grid=grids)
def test_packing_equals_the_library(height: int, width: int, patches: int, grid: list[tuple[int, int]]) -> None:
    spec = mosaic(patches, tuple(grid))
    picture = packed(height, width, spec)
    for family in ("llava_next", "llava_onevision"):
        assert np.array_equal(by_ours(picture), by_library(height, width, spec, picture.tiles, family))


@pytest.mark.parametrize("patches", [6, 24])
def test_packing_equals_the_library_on_a_dense_sweep(patches: int) -> None:
    spec = mosaic(patches)
    for height in range(200, 1300, 171):
        for width in range(190, 1300, 97):
            picture = packed(height, width, spec)
            assert np.array_equal(by_ours(picture), by_library(height, width, spec, picture.tiles))


@pytest.mark.parametrize("size", [(28, 28), (84, 84), (30, 300), (300, 30), (84, 56), (1, 1)])
def test_texts_between_tiles_are_the_librarys(size: tuple[int, int]) -> None:
    processing = pytest.importorskip("transformers.models.smolvlm.processing_smolvlm")
    spec = pictures_of()["smolvlm"]
    picture = packed(*size, spec)
    rows, cols = (picture.place.rows, picture.place.cols) if picture.place.overview else (0, 0)
    theirs = processing.get_image_prompt_string(rows, cols, spec.tile.units, "<around>", "#", "<global>")
    assert "".join(segment.text or "#" * (segment.stop - segment.start) for segment in picture.segments) == theirs


# ------------------------------------------------------------------------------------------------------- the reference


def as_items(picture: PackedPicture) -> list[Item]:
    """A packed picture in the words of the reference."""
    per_tile = picture.slot.shape[1]

    def tokens(group: tuple[int, int]) -> Any:
        rows = picture.unit[group[0] : group[1]]
        return frozenset((int(unit) // per_tile, int(unit) % per_tile) for unit in rows if unit >= 0)

    items: list[Item] = []
    for segment in picture.segments:
        if segment.text:
            items.append(Item(text=segment.text, beside=None if segment.group == ALWAYS else tokens(segment.group)))
        for row in range(segment.start, segment.stop):
            unit = int(picture.unit[row])
            beside = tokens((int(picture.group[row, 0]), int(picture.group[row, 1]))) if unit < 0 else None
            items.append(Item(divmod(unit, per_tile) if unit >= 0 else None, beside=beside))
    return items


@st.composite
def cases(draw: st.DrawFn) -> tuple[PictureSpec, PackedPicture]:
    """Pictures of every family's tiling, with every sequence that fits it, of all sizes and under limits."""
    patches = draw(st.sampled_from([2, 4]))
    merge = draw(st.sampled_from([1, 2]))
    spec = pictures_of(28, patches, merge=merge)[draw(st.sampled_from(FAMILIES))]
    sequence = draw(st.sampled_from([MOSAIC, msgspec.structs.replace(MOSAIC, unpad=False), WRAPPED, NAMED, PLAIN]))
    sequence = msgspec.structs.replace(sequence, overview=draw(st.sampled_from(["first", "last"])))
    spec = msgspec.structs.replace(spec, sequence=sequence)
    height, width = draw(sides), draw(sides)
    return spec, packed(height, width, spec, draw(st.sampled_from([None, None, 0, 1, 2, 3])))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=cases())
def test_rows_texts_and_their_groups_are_the_references(case: tuple[PictureSpec, PackedPicture]) -> None:
    spec, picture = case
    assert as_items(picture) == picture_items(picture.place, spec.tile.side, spec.tile.extra, spec.sequence)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=cases())
def test_every_candidate_has_exactly_one_row(case: tuple[PictureSpec, PackedPicture]) -> None:
    spec, picture = case
    tile, slot = spec.tile, picture.slot
    assert slot.shape == (spec.tiles_max, tile.units) and slot.dtype == np.int64 == picture.unit.dtype
    rows = slot[slot >= 0]
    assert len(rows) == picture.candidates == len(set(rows.tolist()))
    assert np.array_equal(picture.unit[rows], np.flatnonzero(slot.reshape(-1) >= 0))
    learned = np.flatnonzero(picture.unit < 0)
    assert sorted([*rows.tolist(), *learned.tolist()]) == list(range(picture.length))
    assert (slot[picture.tiles :] == -1).all()
    assert bool(len(learned)) <= (spec.sequence.row_end is not None)
    assert picture.length + spec.sequence.text_tokens <= spec.candidates_max + spec.separators_max


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=cases())
def test_rows_ascend_in_the_order_of_the_prompt_and_segments_cover_them_once(
    case: tuple[PictureSpec, PackedPicture],
) -> None:
    spec, picture = case
    runs = [segment for segment in picture.segments if not segment.text]
    assert [row for run in runs for row in range(run.start, run.stop)] == list(range(picture.length))
    assert all(run.start < run.stop for run in runs)
    neighbours = zip(picture.segments, picture.segments[1:], strict=False)
    assert all(one.text or other.text for one, other in neighbours), "one run, one placeholder"
    if spec.sequence.order == "tiles":
        assert (np.diff(picture.slot[: picture.tiles], axis=1) == 1).all(), "a tile's tokens stand together"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=cases())
def test_what_separates_rows_belongs_to_rows_that_are_there(case: tuple[PictureSpec, PackedPicture]) -> None:
    _, picture = case
    groups = [segment.group for segment in picture.segments if segment.text and segment.group != ALWAYS]
    groups += [(int(first), int(behind)) for first, behind in picture.group[picture.unit < 0]]
    assert all(0 <= first <= behind <= picture.length for first, behind in groups)
    assert all((picture.unit[first:behind] >= 0).all() for first, behind in groups if behind - first)
    assert (picture.group[picture.unit >= 0] == -1).all()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=cases())
def test_places_are_unique_on_the_canvas_and_say_where_a_token_lies(case: tuple[PictureSpec, PackedPicture]) -> None:
    spec, picture = case
    tile, place = spec.tile, picture.place
    assert picture.places.shape == (spec.tiles_max, tile.units, 2) and picture.places.dtype == np.int64
    assert ((picture.places == -1).all(axis=2) == (picture.slot < 0)).all()
    on_canvas = [tuple(at) for at in picture.places[place.first :][picture.slot[place.first :] >= 0].tolist()]
    if place.tiles == 1:
        assert picture.canvas == (0, 0) and on_canvas == [divmod(n, tile.side) for n in range(tile.side**2)]
        return
    rows, cols = picture.canvas
    assert sorted(on_canvas) == [(row, col) for row in range(rows) for col in range(cols)]
    if spec.sequence.order == "tiles" or not spec.sequence.unpad or not place.overview:
        assert (rows, cols) == (place.rows * tile.side, place.cols * tile.side)
    if place.overview:
        assert picture.places[0].tolist() == [list(divmod(n, tile.side)) for n in range(tile.side**2)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(case=cases())
def test_tiles_stand_in_the_order_of_the_sequence(case: tuple[PictureSpec, PackedPicture]) -> None:
    spec, picture = case
    assume(spec.sequence.order == "tiles")
    numbers = list(range(picture.tiles))
    last = spec.sequence.overview == "last" and picture.place.overview
    assert picture.tile_order == tuple([*numbers[1:], 0] if last else numbers)


def test_a_mosaic_meets_its_tiles_row_by_row_and_leaves_out_those_without_a_token() -> None:
    spec = mosaic(2, ((2, 2),))
    assert packed(50, 50, spec).tile_order == (0, 1, 2, 3, 4)
    assert packed(1, 900, spec).tile_order == (0,), "all padding"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(case=cases())
def test_every_unit_of_the_overview_lies_in_exactly_one_tile(case: tuple[PictureSpec, PackedPicture]) -> None:
    spec, picture = case
    region = picture.region
    assert region.dtype == np.float32 and region.shape == picture.slot.shape
    assert (region[0] == 0).all() and (region[picture.tiles :] == 0).all()
    assert (region[1:].sum(axis=0) == picture.place.overview).all()


@pytest.mark.parametrize("beyond", [0, 3])
@pytest.mark.parametrize("merge", [1, 2])
def test_region_follows_the_centres_of_units(beyond: int, merge: int) -> None:
    px = 56 + beyond  # pixels that belong to no patch, as SigLIP has
    spec = PictureSpec(tile_spec(px, 4, merge=merge), canvases(px, (2, 2)), MOSAIC)
    side, share = 4 // merge, 14 * merge / px
    picture, place = packed(300, 700, spec), spec.place(300, 700)
    for row in range(side):
        for col in range(side):
            y = place.top + (row + 0.5) * share * place.height
            x = place.left + (col + 0.5) * share * place.width
            tile = 1 + int(y // px) * 2 + int(x // px)
            assert picture.region[tile, row * side + col] == 1.0


# ------------------------------------------------------------------------------------------------------- small pictures


def test_a_wide_thin_picture_keeps_only_the_overview() -> None:
    picture = packed(30, 900, mosaic(6, ((2, 2),)))
    assert picture.canvas == (0, 12)
    assert picture.length == picture.candidates == 36


def test_a_tall_thin_picture_keeps_only_newlines() -> None:
    picture = packed(900, 30, mosaic(6, ((2, 2),)))
    assert picture.canvas == (12, 0)
    assert np.flatnonzero(picture.unit < 0).tolist() == list(range(36, 48)) and picture.length == 48
    assert picture.group[36:].tolist() == [[row, row] for row in range(36, 48)]


def test_a_square_picture_on_a_square_canvas_has_a_small_golden_packing() -> None:
    picture = packed(50, 50, mosaic(2, ((2, 2),)))
    assert (picture.place.rows, picture.place.cols, picture.tiles, picture.canvas) == (2, 2, 5, (4, 4))
    assert picture.slot.tolist() == [[0, 1, 2, 3], [4, 5, 9, 10], [6, 7, 11, 12], [14, 15, 19, 20], [16, 17, 21, 22]]
    assert np.flatnonzero(picture.unit < 0).tolist() == [8, 13, 18, 23]
    assert picture.group[[8, 13, 18, 23]].tolist() == [[4, 8], [9, 13], [14, 18], [19, 23]]
    assert picture.region[1:].tolist() == np.eye(4).tolist()
    assert picture.places[1].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] == picture.places[0].tolist()
    assert picture.places[4].tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_named_tiles_have_a_small_golden_packing() -> None:
    picture = packed(28, 56, msgspec.structs.replace(pictures_of(28, 1)["smolvlm"], tiling=canvases(28, (1, 2))))
    parts = [(s.text, (s.start, s.stop), s.group) for s in picture.segments]
    assert parts == [
        ("<around><row_1_col_1>", (0, 0), (0, 1)), ("", (0, 1), ALWAYS),
        ("<around><row_1_col_2>", (0, 0), (1, 2)), ("", (1, 2), ALWAYS),
        ("\n", (0, 0), (0, 2)), ("\n<around><global>", (0, 0), (2, 3)), ("", (2, 3), ALWAYS),
        ("<around>", (0, 0), ALWAYS),
    ]  # fmt: skip
    assert picture.slot.tolist() == [[2], [0], [1]]


def test_llava_1_5_has_its_tokens_in_order_and_no_newline() -> None:
    spec = PictureSpec(tile_spec(84), Single(resize_shortest=84))
    picture = packed(100, 200, spec)
    assert picture.slot.tolist() == [list(range(36))]
    assert picture.region.tolist() == [[0.0] * 36]
    assert (picture.canvas, picture.tiles, picture.length) == ((0, 0), 1, 36)
    assert (picture.unit >= 0).all()


def test_a_token_that_is_no_patch_has_a_row_but_no_place() -> None:
    picture = packed(9, 9, PictureSpec(tile_spec(28, extra=1), Single(resize_shortest=28)))
    assert picture.slot.tolist() == [[0, 1, 2, 3, 4]]
    assert picture.places[0].tolist() == [[-1, -1], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert picture.triples([0, 1, 4], tile_spec(28, extra=1)) == ((0, 0, 0), (0, 1, 1))


def test_triples_name_tile_row_and_column() -> None:
    spec = mosaic(2, ((2, 2),))
    picture = packed(50, 50, spec)
    assert picture.triples([0, 3, 6, 19, -1], spec.tile) == ((0, 0, 0), (0, 1, 1), (1, 1, 0), (4, 1, 1))
    assert picture.triples(np.array([5]), spec.tile) == ((1, 0, 1),)


@pytest.mark.parametrize("index", [20, -2])
def test_an_index_of_another_model_is_refused(index: int) -> None:
    spec = mosaic(2, ((2, 2),))
    with pytest.raises(RequestError, match="expected 0 to 19"):
        packed(50, 50, spec).triples([index], spec.tile)


def test_the_arrays_cannot_be_changed() -> None:
    picture = packed(50, 50, mosaic(2))
    for array in (picture.unit, picture.group, picture.slot, picture.places, picture.region):
        with pytest.raises(ValueError):
            array[...] = 0


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(ImageError):
        packed(0, 5, mosaic(2))


def test_a_merged_tile_counts_in_units() -> None:
    tile = TileSpec(56, 4, (0.5,) * 3, (0.5,) * 3, merge=2)
    assert (tile.patch_px, tile.unit_px, tile.side, tile.units) == (14, 28, 2, 4)
    picture = packed(56, 112, PictureSpec(tile, canvases(56, (1, 2)), SequenceSpec()))
    assert picture.slot.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]] and picture.canvas == (2, 4)
