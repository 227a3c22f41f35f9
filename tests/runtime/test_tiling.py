"""Where pictures lie on their tiles: limits of a request, counts that are promised, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeprune_runtime.errors import ImageError
from edgeprune_runtime.pictures.pixels import tiles_from_image
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Anyres, NearestRatio, Placement, Single, Split, TilingSpec
from tests.tilings import canvases, noise, pictures_of, tile_spec

sides = st.one_of(st.integers(1, 60), st.integers(1, 3000))
grids = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6, unique=True)
bounds = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(sorted)


@st.composite
def specs(draw: st.DrawFn) -> PictureSpec:
    """Every rule over tiles of even and of odd sides."""
    tile = tile_spec(draw(st.sampled_from([14, 28, 27, 53])), 2)
    longest = st.integers(1, 5 * tile.px)
    rule: TilingSpec = draw(
        st.one_of(
            st.builds(lambda shortest: Single(resize_shortest=shortest), st.integers(10, 60)),
            grids.map(lambda found: canvases(tile.px, *found)),
            bounds.map(lambda pair: NearestRatio(*pair)),
            bounds.map(lambda pair: NearestRatio(*pair, thumbnail=False)),
            st.builds(Split, longest),
            st.builds(Split, longest, st.integers(0, 9)),
            st.builds(Split, st.integers(4000, 5000).map(lambda px: px * tile.px // 28)),
        )
    )
    return PictureSpec(tile, rule)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(spec=specs(), height=sides, width=sides, most=st.integers(0, 12))
def test_a_picture_has_no_more_tiles_than_asked_and_a_count_that_was_promised(
    spec: PictureSpec, height: int, width: int, most: int
) -> None:
    for limited in (spec, spec.limited(most)):
        try:
            place = limited.place(height, width)
        except ImageError:
            assert isinstance(spec.tiling, Single)
            return
        assert spec.tokens_of(place) in spec.token_counts and limited.tokens_of(place) in limited.token_counts
        assert place.size == (height, width)
    assert place.rows * place.cols <= max(most, 1), "the limited one"
    assert place.overview == (place.tiles > 1 and spec.tiling != NearestRatio(*_bounds(spec), thumbnail=False))


def _bounds(spec: PictureSpec) -> tuple[int, int]:
    return (spec.tiling.least, spec.tiling.most) if isinstance(spec.tiling, NearestRatio) else (1, 1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(spec=specs(), height=sides, width=sides)
def test_no_tiles_beside_the_overview_is_one_view_of_the_whole_picture(
    spec: PictureSpec, height: int, width: int
) -> None:
    try:
        place = spec.limited(0).place(height, width)
    except ImageError:
        assert isinstance(spec.tiling, Single)
        return
    assert place.tiles == 1 and not place.overview
    if not isinstance(spec.tiling, Single):
        assert place == Placement((height, width), 1, 1, 0, 0, spec.tile.px, spec.tile.px)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(spec=specs())
def test_the_largest_picture_has_the_most_tiles_and_fills_them(spec: PictureSpec) -> None:
    """Of the rules that checkpoints have; a Split with a limit of tiles exists for one request only."""
    assume(not isinstance(spec.tiling, Split) or not spec.tiling.most)
    place = spec.place(*spec.largest)
    assert place.tiles == spec.tiles_max and spec.tokens_of(place) == spec.token_counts[-1]
    if not isinstance(spec.tiling, Single):
        assert (place.height, place.width) == (place.rows * spec.tile.px, place.cols * spec.tile.px)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(spec=specs(), height=sides, width=sides, most=st.integers(0, 30))
def test_a_limit_that_does_not_bind_changes_nothing(spec: PictureSpec, height: int, width: int, most: int) -> None:
    if isinstance(spec.tiling, Single):
        return
    place = spec.place(height, width)
    assert spec.limited(None) is spec
    assert spec.limited(max(most, spec.tiles_max)).place(height, width) == place
    assert spec.limited(most).limited(most) == spec.limited(most)
    assert spec.limited(2).limited(5) == spec.limited(2), "a limit is never lifted"


def test_limits_take_the_best_of_the_smaller_canvases() -> None:
    spec = PictureSpec(tile_spec(), canvases(28, (3, 3), (2, 2), (1, 2), (1, 4)))
    assert [spec.limited(n).place(100, 100).tiles for n in (9, 8, 3, 1)] == [10, 5, 3, 1]
    assert spec.limited(4).place(20, 90).cols == 4 and spec.limited(3).place(20, 90).cols == 2
    ratio = PictureSpec(tile_spec(), NearestRatio(2, 12))
    assert [ratio.limited(n).place(300, 300).tiles for n in (12, 8, 3, 1, 0)] == [10, 5, 3, 1, 1]
    split = PictureSpec(tile_spec(), Split(84))
    assert [split.limited(n).place(300, 300).tiles for n in (9, 8, 4, 3, 0)] == [10, 5, 5, 1, 1]
    assert [split.limited(n).place(10, 300).tiles for n in (9, 2, 1)] == [4, 3, 1]


def test_a_picture_of_one_tile_is_its_own_overview() -> None:
    tile = tile_spec()
    image = noise(28, 28)
    for rule in (NearestRatio(1, 4), Split(28), Anyres(()), Single(resize_shortest=28)):
        place = rule.place(28, 28, tile)
        assert rule.overview and place.tiles == 1 and place.first == 0 and not place.overview
        (made,) = rule.crops(image, place, tile)
        assert np.array_equal(made, np.asarray(image))


def test_a_ratio_without_thumbnail_has_the_canvas_alone() -> None:
    tile = tile_spec()
    rule, whole = NearestRatio(1, 4, thumbnail=False), NearestRatio(1, 4)
    ours, theirs = (list(r.crops(noise(50, 90), r.place(50, 90, tile), tile)) for r in (rule, whole))
    assert not rule.overview and len(ours) == 2 and np.array_equal(ours, theirs[1:])


def test_tiles_follow_the_placement_that_is_given() -> None:
    spec, image = pictures_of()["internvl"], noise(80, 120)
    limited = spec.limited(2)
    place = limited.place(80, 120)
    assert place.tiles == 3
    assert np.array_equal(tiles_from_image(image, limited, place), tiles_from_image(image, limited))


def test_centre_crop_places_the_picture_beyond_the_tile() -> None:
    place = Single(resize_shortest=28).place(28, 84, tile_spec())
    assert (place.top, place.left, place.height, place.width) == (0, -28, 28, 84)


def test_padding_places_the_picture_inside_the_tile() -> None:
    place = Single(resize_shortest=28, pad_to_square=True).place(28, 56, tile_spec())
    assert (place.top, place.left, place.height, place.width) == (7, 0, 14, 28)


@pytest.mark.parametrize(
    "rule",
    [
        canvases(28, (1, 2)), Anyres(()), Single(resize_shortest=28), Single(pad_to_square=True), NearestRatio(1, 4), Split(84),
        Split(84, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_empty_picture_is_refused(rule: TilingSpec, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="expected at least 1x1"):
        tiles_from_image(Image.new("RGB", size), PictureSpec(tile_spec(), rule))


def test_hostile_shapes_are_refused_not_computed() -> None:
    tile = tile_spec(336)
    with pytest.raises(ImageError, match="takes at most 297 : 1"):
        tiles_from_image(Image.new("RGB", (65_535, 1)), PictureSpec(tile, Single(resize_shortest=336)))
    with pytest.raises(ImageError, match="sides of at most 10000"):
        padded = Single(resize_shortest=336, pad_to_square=True)
        tiles_from_image(Image.new("RGB", (1, 65_535)), PictureSpec(tile, padded))


@pytest.mark.parametrize("rule", [canvases(28, (1, 2)), NearestRatio(1, 6), Split(84)])
@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535)])
def test_the_thinnest_pictures_that_can_be_stored_become_tiles(rule: TilingSpec, size: tuple[int, int]) -> None:
    spec = PictureSpec(tile_spec(), rule)
    tiles = tiles_from_image(Image.new("RGB", size, (255, 0, 0)), spec)
    assert len(tiles) == spec.place(size[1], size[0]).tiles and np.isfinite(tiles).all()
