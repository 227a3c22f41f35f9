"""Every source gives an upright RGB picture or an ImageError in one sentence."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune_runtime.errors import ImageError
from edgeprune_runtime.pictures.load import load_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def noise(height: int = 40, width: int = 60) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png_header(width: int, height: int, bits: int = 1) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def message_of(source: Any, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(source, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


def equal(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and bool((np.asarray(first) == np.asarray(second)).all())


def test_all_kinds_of_source_give_the_same_picture(tmp_path: Path) -> None:
    image = noise()
    path = tmp_path / "a picture.png"
    path.write_bytes(encoded(image))
    for source in (str(path), path, path.read_bytes(), image, np.asarray(image), Image.open(path)):
        loaded = load_image(source)
        assert loaded.mode == "RGB" and equal(loaded, image)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP"])
def test_common_formats_are_read(form: str) -> None:
    data = encoded(noise(), form)
    assert equal(load_image(data), Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied_to_every_source(orientation: int, form: str, tmp_path: Path) -> None:
    upright = noise()
    stored = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    best: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    data = encoded(upright if stored is None else upright.transpose(stored), form, exif=exif, **best.get(form, {}))
    path = tmp_path / "turned"
    path.write_bytes(data)
    for source in (path, data, Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data)).convert("RGB")):
        if form == "TIFF" and isinstance(source, Image.Image) and source.format is None:
            continue  # Pillow has turned it itself by then
        loaded = load_image(source)
        assert loaded.size == upright.size
        difference = np.abs(np.asarray(loaded).astype(int) - np.asarray(upright))
        assert difference.mean() <= (6 if form == "JPEG" else 0)
        assert equal(load_image(loaded), loaded)  # once is enough


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored() -> None:
    assert load_image(encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).size == (60, 40)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 2, 4))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(0, (0, 0, 2, 4))
    palette.info["transparency"] = 1
    for source in (clear, encoded(clear), np.asarray(clear), palette, encoded(palette), clear.convert("RGBa")):
        loaded = load_image(source)
        assert loaded.getpixel((0, 0)) == RED and loaded.getpixel((3, 0)) == WHITE


def test_a_transparent_colour_is_laid_on_white() -> None:
    for mode, colour, key in (("RGB", (0, 255, 0), (0, 255, 0)), ("L", 7, 7), ("1", 0, 0), ("I;16", 700, 700)):
        assert load_image(encoded(Image.new(mode, (3, 3), colour), transparency=key)).getpixel((1, 1)) == WHITE


def test_grey_with_alpha_is_composited() -> None:
    assert load_image(Image.new("LA", (2, 2), (0, 128))).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form: str) -> None:
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    wide = values.astype(np.int32) if form == "PPM" else values  # Pillow 10 writes no PPM of I;16
    loaded = load_image(encoded(Image.fromarray(wide), form))
    assert np.asarray(loaded)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_arrays_are_scaled() -> None:
    for shape in ((1, 4), (1, 4, 1)):
        values = np.array([0, 256, 32768, 65535], dtype=np.uint16).reshape(shape)
        assert np.asarray(load_image(values))[0, :, 2].tolist() == [0, 1, 128, 255]
    assert load_image(np.full((2, 2, 3), 65535, dtype=np.uint16)).getpixel((0, 0)) == WHITE


def test_boolean_arrays_are_black_and_white() -> None:
    assert np.asarray(load_image(np.array([[True, False]])))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "LA", "PA", "La", "I", "I;16B"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    loaded = load_image(Image.new(mode, (5, 3)))
    assert loaded.mode == "RGB" and loaded.size == (5, 3)


def test_cmyk_jpeg_keeps_its_colour() -> None:
    loaded = load_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    pixel = loaded.getpixel((8, 8))
    assert isinstance(pixel, tuple) and pixel[0] > 240 and pixel[1] < 15 and pixel[2] < 15


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_used(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")]
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert load_image(data).getpixel((4, 4)) == RED


def test_the_given_picture_is_left_as_it_was() -> None:
    image = noise()
    image.info["note"] = "mine"
    loaded = load_image(image)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert equal(image, noise()) and image.info == {"note": "mine"}


def test_a_bomb_is_refused_by_its_header() -> None:
    assert "30000x30000 pixels; expected at most 100000000" in message_of(png_header(30_000, 30_000))
    assert "no side above 65535" in message_of(png_header(70_000, 1))
    assert "expected at most 100 pixels" in message_of(noise(11, 10), max_pixels=100)
    assert "expected at most 100 pixels" in message_of(np.zeros((11, 10), dtype=np.uint8), max_pixels=100)


def test_the_limit_does_not_depend_on_the_one_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for limit in (None, 10, 2000):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            assert load_image(data).size == (60, 40)
            assert limit == Image.MAX_IMAGE_PIXELS
            assert "expected at most" in message_of(png_header(30_000, 30_000))


def test_missing_and_wrong_files_are_named(tmp_path: Path) -> None:
    assert "does not exist" in message_of(tmp_path / "none.png")
    assert "is a directory" in message_of(str(tmp_path))
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    assert "notes.txt' is not a picture" in message_of(text)
    (tmp_path / "empty.png").touch()
    assert "is empty" in message_of(tmp_path / "empty.png")
    assert "is empty" in message_of(b"")
    message_of("nul\0byte.png")
    message_of("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in message_of(tmp_path / "pipe")


def test_formats_that_run_programs_are_not_opened() -> None:
    assert "is not a picture that can be read" in message_of(encoded(noise(), "EPS"))


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP"])
def test_truncated_files_are_refused(form: str) -> None:
    data = encoded(noise(), form)
    for share in (0.02, 0.3, 0.6, 0.9):
        assert "expected" in message_of(data[: max(4, int(len(data) * share))])


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_never_raise_anything_else(form: str) -> None:
    data = np.frombuffer(encoded(noise(8, 8), form), dtype=np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = data.copy()
        spots = rng.integers(0, min(len(data), 200), 3)
        damaged[spots] = rng.integers(0, 256, 3)
        try:
            assert load_image(damaged.tobytes(), max_pixels=1_000_000).mode == "RGB"
        except ImageError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 3), (3, 5, 5), (5, 5, 2), ()])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    assert f"has shape {shape}" in message_of(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "complex64", "U1", "O"])
def test_arrays_of_another_type_are_refused(dtype: str) -> None:
    assert "expected" in message_of(np.zeros((2, 2, 3), dtype=dtype))


@pytest.mark.parametrize(
    "source", [Image.new("RGB", (0, 5)), Image.new("L", (5, 0)), np.zeros((0, 5, 3), dtype=np.uint8)]
)
def test_pictures_without_pixels_are_refused(source: Any) -> None:
    assert "expected at least 1x1" in message_of(source)


def test_pixels_without_a_known_range_are_refused() -> None:
    assert "floating-point" in message_of(Image.new("F", (2, 2)))
    assert "from 70000 to 70000" in message_of(Image.new("I", (2, 2), 70_000))


def test_other_objects_are_refused() -> None:
    assert "cannot be made from int" in message_of(7)
    assert "cannot be made from NoneType" in message_of(None)


def test_a_closed_picture_is_refused(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.close()
    assert "cannot be decoded" in message_of(image)
