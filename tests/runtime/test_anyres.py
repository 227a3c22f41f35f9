"""Tiles equal the ones of the transformers processors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime.errors import ImageError
from edgeprune_runtime.pictures.tiling.anyres import (
    best_grid,
    normalise_into,
    placement_from_size,
    tile_crops,
    tiles_from_image,
)
from edgeprune_runtime.spec import Preprocess

clip_processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
llava_processing = pytest.importorskip("transformers.models.llava.image_processing_pil_llava")
next_processing = pytest.importorskip("transformers.models.llava_next.image_processing_pil_llava_next")
select_best_resolution = pytest.importorskip("transformers.image_processing_utils").select_best_resolution

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LLAVA_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
SMALL_PINPOINTS = ((56, 84), (28, 28), (84, 28), (28, 84), (56, 56), (84, 56), (28, 56), (56, 28))
SIZES = [
    (1, 1), (1, 7), (7, 1), (28, 28), (27, 29), (56, 84), (55, 85), (100, 100), (101, 100), (30, 300),
    (300, 30), (1, 200), (200, 1), (480, 640), (333, 500), (640, 427), (120, 800), (799, 601),
]  # fmt: skip


def picture(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * 10_007 + width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def anyres(tile_px: int = 28, pinpoints: tuple[tuple[int, int], ...] = SMALL_PINPOINTS, **more: Any) -> Preprocess:
    return Preprocess(
        anyres=True, tile_px=tile_px, patches=tile_px // 14, pinpoints=pinpoints, mean=MEAN, std=STD, **more
    )


def single(tile_px: int = 28, **more: Any) -> Preprocess:
    return Preprocess(anyres=False, tile_px=tile_px, patches=tile_px // 14, pinpoints=(), mean=MEAN, std=STD, **more)


def library_options(preprocess: Preprocess) -> dict[str, Any]:
    px = preprocess.tile_px
    return {
        "crop_size": {"height": px, "width": px},
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
        "resample": preprocess.resample,
    }


def library_anyres(image: Image.Image, preprocess: Preprocess) -> Any:
    processor = next_processing.LlavaNextImageProcessorPil(
        size={"shortest_edge": preprocess.tile_px},
        image_grid_pinpoints=[list(pinpoint) for pinpoint in preprocess.pinpoints],
        **library_options(preprocess),
    )
    return np.asarray(processor(image)["pixel_values"][0])


def assert_equal(ours: Any, theirs: Any) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32 and ours.flags.c_contiguous
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pinpoints", [SMALL_PINPOINTS, SMALL_PINPOINTS[::-1], ((28, 84),), ((56, 84), (84, 28))])
def test_anyres_tiles_equal_the_library(size: tuple[int, int], pinpoints: tuple[tuple[int, int], ...]) -> None:
    preprocess = anyres(pinpoints=pinpoints)
    image = picture(*size)
    assert_equal(tiles_from_image(image, preprocess), library_anyres(image, preprocess))


@pytest.mark.parametrize("size", [(600, 900), (480, 640), (1200, 300), (1, 1000), (2000, 1)])
def test_full_size_tiles_equal_the_library(size: tuple[int, int]) -> None:
    preprocess = anyres(336, LLAVA_PINPOINTS)
    image = picture(*size)
    assert_equal(tiles_from_image(image, preprocess), library_anyres(image, preprocess))


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
def test_every_resize_filter_equals_the_library(resample: int) -> None:
    image = picture(123, 77)
    preprocess = anyres(resample=resample)
    assert_equal(tiles_from_image(image, preprocess), library_anyres(image, preprocess))
    preprocess = single(resize_shortest=28, resample=resample)
    processor = clip_processing.CLIPImageProcessorPil(size={"shortest_edge": 28}, **library_options(preprocess))
    assert_equal(tiles_from_image(image, preprocess), np.asarray(processor(image)["pixel_values"]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shortest", [20, 28, 40])
@pytest.mark.parametrize("pad", [False, True])
def test_llava_1_5_tile_equals_the_library(size: tuple[int, int], shortest: int, pad: bool) -> None:
    preprocess = single(resize_shortest=shortest, pad_to_square=pad)
    image = picture(*size)
    options = library_options(preprocess)
    processor = (
        llava_processing.LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": shortest}, **options)
        if pad
        else clip_processing.CLIPImageProcessorPil(size={"shortest_edge": shortest}, **options)
    )
    assert_equal(tiles_from_image(image, preprocess), np.asarray(processor(image)["pixel_values"]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("exact", [(28, 28), (40, 20), (33, 57)])
def test_squashed_tile_equals_the_library(size: tuple[int, int], exact: tuple[int, int]) -> None:
    preprocess = single(resize_exact=exact)
    processor = clip_processing.CLIPImageProcessorPil(
        size={"height": exact[0], "width": exact[1]}, **library_options(preprocess)
    )
    image = picture(*size)
    assert_equal(tiles_from_image(image, preprocess), np.asarray(processor(image)["pixel_values"]))


def test_grid_is_the_library_choice_in_any_pinpoint_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        height, width = (int(side) for side in rng.integers(1, 2000, 2))
        pinpoints = tuple(SMALL_PINPOINTS[i] for i in rng.permutation(len(SMALL_PINPOINTS))[: rng.integers(1, 9)])
        expected = select_best_resolution((height, width), list(pinpoints))
        assert best_grid(height, width, anyres(pinpoints=pinpoints)) == (expected[0] // 28, expected[1] // 28)


def test_llava_1_5_has_no_grid() -> None:
    assert best_grid(10, 20, single(resize_shortest=28)) == (0, 0)


def test_crops_come_one_by_one_thumbnail_first() -> None:
    preprocess = anyres()
    image = picture(90, 60)
    tiles = tiles_from_image(image, preprocess)
    crops = list(tile_crops(image, preprocess))
    out = np.empty((3, 28, 28), dtype=np.float32)
    assert len(crops) == len(tiles)
    for crop, tile in zip(crops, tiles, strict=True):
        normalise_into(crop, preprocess, out)
        assert np.array_equal(out, tile)
    assert np.array_equal(crops[0], np.asarray(image.resize((28, 28), Image.Resampling.BICUBIC)))


def test_centre_crop_places_the_picture_beyond_the_tile() -> None:
    place = placement_from_size(28, 84, single(resize_shortest=28))
    assert (place.top, place.left, place.height, place.width) == (0, -28, 28, 84)


def test_padding_places_the_picture_inside_the_tile() -> None:
    place = placement_from_size(28, 56, single(resize_shortest=28, pad_to_square=True))
    assert (place.top, place.left, place.height, place.width) == (7, 0, 14, 28)


@pytest.mark.parametrize("preprocess", [anyres(), single(resize_shortest=28), single(pad_to_square=True)])
def test_an_empty_picture_is_refused(preprocess: Preprocess) -> None:
    with pytest.raises(ImageError, match="expected at least 1x1"):
        tiles_from_image(Image.new("RGB", (0, 5)), preprocess)


def test_hostile_shapes_are_refused_not_computed() -> None:
    with pytest.raises(ImageError, match="takes at most 297 : 1"):
        tiles_from_image(Image.new("RGB", (65_535, 1)), single(336, resize_shortest=336))
    with pytest.raises(ImageError, match="sides of at most 10000"):
        tiles_from_image(Image.new("RGB", (1, 65_535)), single(336, resize_shortest=336, pad_to_square=True))
