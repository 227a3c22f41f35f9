"""Tiles are those of transformers' own image processors, the normalised numbers too: to the last bit."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from edgeprune.models.families import FAMILIES
from edgeprune_runtime.pictures.pixels import normalise_into, tiles_from_image
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Anyres, NearestRatio, Single, Split, TileSpec, TilingSpec
from tests.tilings import CLIP_MEAN, CLIP_STD, canvases, noise, tile_spec

clip_processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
llava_processing = pytest.importorskip("transformers.models.llava.image_processing_pil_llava")
next_processing = pytest.importorskip("transformers.models.llava_next.image_processing_pil_llava_next")
onevision_processing = pytest.importorskip("transformers.models.llava_onevision.image_processing_pil_llava_onevision")
ratio_processing = pytest.importorskip("transformers.models.got_ocr2.image_processing_pil_got_ocr2")
smolvlm_processing = pytest.importorskip("transformers.models.smolvlm.image_processing_pil_smolvlm")
idefics3_processing = pytest.importorskip("transformers.models.idefics3.image_processing_pil_idefics3")
select_best_resolution = pytest.importorskip("transformers.image_processing_utils").select_best_resolution

LLAVA_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
SMALL_PINPOINTS = ((56, 84), (28, 28), (84, 28), (28, 84), (56, 56), (84, 56), (28, 56), (56, 28))
#: Tiny, thin, huge and square pictures, exact multiples of a tile of 28 pixels and one pixel beside them.
SIZES = [
    (1, 1), (1, 7), (7, 1), (28, 28), (27, 29), (56, 84), (55, 85), (57, 83), (84, 84), (100, 100), (101, 100), (30, 300),
    (300, 30), (1, 200), (200, 1), (480, 640), (333, 500), (640, 427), (120, 800), (799, 601),
]  # fmt: skip
CROP = {"crop_size": {"height": 28, "width": 28}}
#: What the library does with a tile after it was cut, switched off.
RAW = {"do_rescale": False, "do_normalize": False}


def crops(image: Image.Image, tiling: TilingSpec, tile: TileSpec) -> Any:
    """uint8 [T, P, P, 3], the overview first."""
    return np.stack(list(tiling.crops(image, tiling.place(image.height, image.width, tile), tile)))


def library(processor: type, image: Image.Image, tile: TileSpec, **settings: Any) -> Any:
    """[T, 3, P, P] as the processor gives them, in its own order."""
    made = processor(
        image_mean=list(tile.mean), image_std=list(tile.std), resample=tile.resample, do_convert_rgb=True, **settings
    )(image, return_tensors="np")
    values = np.asarray(made["pixel_values"])
    return values[0] if values.ndim == 5 else values


def assert_equal(
    image: Image.Image, tiling: TilingSpec, tile: TileSpec, processor: type, overview: str, **settings: Any
) -> None:
    """Equal pixels, and equal numbers. overview: where the library has it, "first" or "last"."""

    def ordered(tiles: Any) -> Any:
        return np.roll(tiles, 1, axis=0) if overview == "last" and len(tiles) > 1 else tiles

    raw = ordered(library(processor, image, tile, **settings, **RAW))
    ours = crops(image, tiling, tile)
    assert ours.dtype == np.uint8 and np.array_equal(ours.transpose(0, 3, 1, 2), raw)
    theirs = ordered(library(processor, image, tile, **settings))
    numbers = tiles_from_image(image, PictureSpec(tile, tiling))
    assert numbers.shape == theirs.shape and numbers.dtype == np.float32 and numbers.flags.c_contiguous
    assert np.array_equal(numbers, theirs)


def cropped(tile: TileSpec) -> dict[str, Any]:
    return {"crop_size": {"height": tile.px, "width": tile.px}}


#: What every family's processor is given beside its rule.
PROCESSORS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "llava_next": (next_processing.LlavaNextImageProcessorPil, "first", {"size": {"shortest_edge": 28}, **CROP}),
    "llava_onevision": (
        onevision_processing.LlavaOnevisionImageProcessorPil,
        "first",
        {"size": {"height": 28, "width": 28}},
    ),
    "internvl": (ratio_processing.GotOcr2ImageProcessorPil, "last", {"size": {"height": 28, "width": 28}}),
    "smolvlm": (smolvlm_processing.SmolVLMImageProcessorPil, "last", {"max_image_size": {"longest_edge": 28}}),
    "idefics3": (idefics3_processing.Idefics3ImageProcessorPil, "last", {"max_image_size": {"longest_edge": 28}}),
}
LIMITED = (
    ("llava_next", Anyres(SMALL_PINPOINTS)), ("llava_onevision", Anyres(SMALL_PINPOINTS)), ("internvl", NearestRatio(2, 9)),
    ("internvl", NearestRatio(1, 12)), ("smolvlm", Split(84)), ("smolvlm", Split(100)), ("smolvlm", Split(75, 5)),
    ("idefics3", Split(112)),
)  # fmt: skip


def assert_single(image: Image.Image, tiling: Single, tile: TileSpec, size: dict[str, int]) -> None:
    processor = (
        llava_processing.LlavaImageProcessorPil if tiling.pad_to_square else clip_processing.CLIPImageProcessorPil
    )
    padded = {"do_pad": True} if tiling.pad_to_square else {}
    assert_equal(image, tiling, tile, processor, "first", size=size, **cropped(tile), **padded)


def assert_anyres(image: Image.Image, tiling: Anyres, tile: TileSpec) -> None:
    assert_equal(
        image,
        tiling,
        tile,
        next_processing.LlavaNextImageProcessorPil,
        "first",
        size={"shortest_edge": tile.px},
        image_grid_pinpoints=[list(pinpoint) for pinpoint in tiling.pinpoints],
        **cropped(tile),
    )


def assert_ratio(image: Image.Image, tiling: NearestRatio, tile: TileSpec) -> None:
    assert_equal(
        image,
        tiling,
        tile,
        ratio_processing.GotOcr2ImageProcessorPil,
        "last",
        size={"height": tile.px, "width": tile.px},
        crop_to_patches=True,
        min_patches=tiling.least,
        max_patches=tiling.most,
    )


def assert_split(
    image: Image.Image, tiling: Split, tile: TileSpec, processor: type = smolvlm_processing.SmolVLMImageProcessorPil
) -> None:
    assert_equal(
        image,
        tiling,
        tile,
        processor,
        "last",
        size={"longest_edge": tiling.longest_px},
        max_image_size={"longest_edge": tile.px},
        do_image_splitting=tiling.most != 0,
    )


# ------------------------------------------------------------------------------------------------------------- one tile


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shortest", [20, 28, 40])
@pytest.mark.parametrize("pad", [False, True])
def test_a_single_tile_is_the_librarys(size: tuple[int, int], shortest: int, pad: bool) -> None:
    rule = Single(resize_shortest=shortest, pad_to_square=pad)
    assert_single(noise(*size), rule, tile_spec(), {"shortest_edge": shortest})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("exact", [(28, 28), (40, 20), (33, 57)])
def test_a_squashed_tile_is_the_librarys(size: tuple[int, int], exact: tuple[int, int]) -> None:
    rule = Single(resize_exact=exact)
    assert_single(noise(*size), rule, tile_spec(), {"height": exact[0], "width": exact[1]})


# -------------------------------------------------------------------------------------------------------------- anyres


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pinpoints", [SMALL_PINPOINTS, SMALL_PINPOINTS[::-1], ((28, 84),), ((56, 84), (84, 28))])
def test_anyres_tiles_are_the_librarys(size: tuple[int, int], pinpoints: tuple[tuple[int, int], ...]) -> None:
    assert_anyres(noise(*size), Anyres(pinpoints), tile_spec())


@pytest.mark.parametrize("size", [(600, 900), (480, 640), (1200, 300), (1, 1000), (2000, 1)])
def test_full_size_anyres_tiles_are_the_librarys(size: tuple[int, int]) -> None:
    assert_anyres(noise(*size), Anyres(LLAVA_PINPOINTS), tile_spec(336))


@pytest.mark.parametrize("size", SIZES)
def test_anyres_tiles_are_those_of_llava_onevisions_processor(size: tuple[int, int]) -> None:
    tile, rule = tile_spec(), canvases(28, *((rows, cols) for rows in range(1, 5) for cols in range(1, 5)))
    assert_equal(
        noise(*size),
        rule,
        tile,
        onevision_processing.LlavaOnevisionImageProcessorPil,
        "first",
        size={"height": 28, "width": 28},
        image_grid_pinpoints=[list(pinpoint) for pinpoint in rule.pinpoints],
    )


def test_the_canvas_is_the_librarys_choice_in_any_order_of_the_pinpoints() -> None:
    rng, tile = np.random.default_rng(0), tile_spec()
    for _ in range(2000):
        height, width = (int(side) for side in rng.integers(1, 2000, 2))
        pinpoints = tuple(SMALL_PINPOINTS[i] for i in rng.permutation(len(SMALL_PINPOINTS))[: rng.integers(1, 9)])
        expected = select_best_resolution((height, width), list(pinpoints))
        place = Anyres(pinpoints).place(height, width, tile)
        assert (place.rows, place.cols, place.overview) == (expected[0] // 28, expected[1] // 28, True)


# --------------------------------------------------------------------------------------------------------------- ratio


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("least", "most"), [(1, 12), (1, 4), (2, 5), (3, 3), (1, 1)])
def test_ratio_tiles_are_the_librarys(size: tuple[int, int], least: int, most: int) -> None:
    assert_ratio(noise(*size), NearestRatio(least, most), tile_spec())


@pytest.mark.parametrize("size", [(600, 900), (448, 448), (3000, 300)])
def test_full_size_ratio_tiles_are_the_librarys(size: tuple[int, int]) -> None:
    assert_ratio(noise(*size), NearestRatio(1, 12), tile_spec(448))


def test_the_canvas_is_the_librarys_choice_of_proportions() -> None:
    """Ties between canvases of one proportion are decided by the picture's area."""
    rng, tile = np.random.default_rng(1), tile_spec()
    square = [(side, side) for side in range(1, 120)]
    sizes = [*square, *((int(h), int(w)) for h, w in rng.integers(1, 2000, (2000, 2)))]
    for height, width in sizes:
        least = int(rng.integers(1, 4))
        most = least + int(rng.integers(0, 10))
        expected = ratio_processing.get_optimal_tiled_canvas((height, width), (28, 28), least, most)
        place = NearestRatio(least, most).place(height, width, tile)
        assert (place.cols, place.rows) == expected
        assert place.overview == (expected != (1, 1))


# --------------------------------------------------------------------------------------------------------------- split


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [84, 112, 28, 100, 75, 20, 29])
def test_split_tiles_are_the_librarys(size: tuple[int, int], longest: int) -> None:
    """Longest edges that are multiples of the tile and that are not, odd ones and ones below a tile."""
    assert_split(noise(*size), Split(longest), tile_spec(resample=1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [81, 54, 60])
def test_split_tiles_of_an_odd_side_are_the_librarys(size: tuple[int, int], longest: int) -> None:
    assert_split(noise(*size), Split(longest), tile_spec(27, 3, resample=1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [84, 75])
def test_a_picture_that_is_not_split_is_the_librarys(size: tuple[int, int], longest: int) -> None:
    assert_split(noise(*size), Split(longest, most=0), tile_spec(resample=1))


@pytest.mark.parametrize("size", SIZES[::2])
@pytest.mark.parametrize("most", [None, 0])
def test_split_tiles_are_those_of_idefics3s_processor(size: tuple[int, int], most: int | None) -> None:
    assert_split(
        noise(*size), Split(100, most), tile_spec(resample=1), processor=idefics3_processing.Idefics3ImageProcessorPil
    )


@pytest.mark.parametrize("size", [(30, 5000), (4500, 900), (480, 640)])
def test_a_longest_edge_beyond_the_librarys_own_limit_is_cut_as_there(size: tuple[int, int]) -> None:
    assert_split(noise(*size), Split(5000), tile_spec(1024, 64, resample=1))


@pytest.mark.parametrize("size", [(600, 900), (512, 512), (3000, 300)])
def test_full_size_split_tiles_are_the_librarys(size: tuple[int, int]) -> None:
    assert_split(noise(*size), Split(2048), tile_spec(512, 32, resample=1))


# ----------------------------------------------------------------------------------------------------- all of the rules


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
def test_every_resize_filter_is_the_librarys(resample: int) -> None:
    image, tile = noise(123, 77), tile_spec(resample=resample)
    assert_single(image, Single(resize_shortest=28), tile, {"shortest_edge": 28})
    assert_anyres(image, Anyres(SMALL_PINPOINTS), tile)
    assert_ratio(image, NearestRatio(1, 6), tile)
    assert_split(image, Split(84), tile)


@pytest.mark.parametrize("tiles", [0, 1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    ("family", "rule"), LIMITED, ids=[f"{name}-{rule.__class__.__name__}-{i}" for i, (name, rule) in enumerate(LIMITED)]
)
def test_a_limited_picture_is_the_librarys_with_the_settings_of_its_family(
    family: str, rule: TilingSpec, tiles: int
) -> None:
    spec = PictureSpec(tile_spec(), rule).limited(tiles)
    processor, overview, settings = PROCESSORS[family]
    if isinstance(rule, Split):  # what the checkpoint's own file says
        settings = {**settings, "size": {"longest_edge": rule.longest_px}}
    compared = 0
    for size in SIZES[::3]:
        told = FAMILIES.get(family).reference(spec, spec.place(*size))
        if told is None:  # the library has no picture without tiles
            assert isinstance(spec.tiling, Anyres) and not spec.tiling.pinpoints
            continue
        assert_equal(noise(*size), spec.tiling, spec.tile, processor, overview, **{**settings, **told})
        compared += 1
    assert compared or (tiles == 0 and isinstance(rule, Anyres))


def test_settings_of_the_numbers_are_the_librarys() -> None:
    """Mean, deviation and scale reach every channel."""
    tile = tile_spec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert_ratio(noise(60, 90), NearestRatio(1, 6), tile)
    scaled = msgspec.structs.replace(tile, rescale=1 / 127)
    theirs = library(
        ratio_processing.GotOcr2ImageProcessorPil, noise(60, 90), scaled, size={"height": 28, "width": 28}, rescale_factor=1 / 127
    )  # fmt: skip
    ours = tiles_from_image(noise(60, 90), PictureSpec(scaled, NearestRatio(1, 1)))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    "rule", [Anyres(SMALL_PINPOINTS), NearestRatio(2, 6), Split(84)], ids=["anyres", "ratio", "split"]
)
def test_crops_come_one_by_one_the_overview_first(rule: TilingSpec) -> None:
    image, tile = noise(90, 60), tile_spec()
    place = rule.place(90, 60, tile)
    tiles = tiles_from_image(image, PictureSpec(tile, rule))
    made = list(rule.crops(image, place, tile))
    out = np.empty((3, 28, 28), dtype=np.float32)
    assert place.overview and len(made) == len(tiles) == place.tiles
    for crop, numbers in zip(made, tiles, strict=True):
        normalise_into(crop, tile, out)
        assert np.array_equal(out, numbers)
    shown = image if not isinstance(rule, Split) else image.resize((56, 84), Image.Resampling.BICUBIC)
    if isinstance(rule, Split):  # from the picture that was squashed to whole tiles, which 90 x 60 of 84 is already
        assert (place.rows, place.cols) == (3, 2)
    assert np.array_equal(made[0], np.asarray(shown.resize((28, 28), Image.Resampling.BICUBIC)))


def test_numbers_are_those_of_the_published_mean_and_deviation() -> None:
    white = Image.new("RGB", (28, 28), (255, 255, 255))
    tiles = tiles_from_image(white, PictureSpec(tile_spec(), Single(resize_shortest=28)))
    expected = (1 - np.asarray(CLIP_MEAN)) / np.asarray(CLIP_STD)
    np.testing.assert_allclose(tiles[0].mean(axis=(1, 2)), expected, rtol=1e-5)
