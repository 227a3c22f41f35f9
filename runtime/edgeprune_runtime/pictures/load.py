"""From any picture to an upright RGB picture, safely.

One rule for every kind of source (file, bytes, Pillow picture, array): EXIF rotation is applied, transparency is laid on
white, 16 bits are reduced to their upper 8, of an animation the picture at hand is used. The size is read from the header
and refused before anything is decoded. Formats that run programs or describe drawings (EPS, WMF, ...) are not opened.
"""

from __future__ import annotations

import io
import logging
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeprune_runtime.errors import ImageError

logger = logging.getLogger(__name__)

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]"

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
_FORMATS_TEXT = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, AVIF or JPEG 2000"

# Longest side in pixels: what JPEG can hold. Bounds the memory of resizing very thin pictures.
MAX_SIDE_PX = 65_535

_ORIENTATION_TAG = 0x0112
_PREFIX = 16  # bytes that tell a format
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ARRAY_TEXT = (
    "expected (height, width), (height, width, 1), (height, width, 3) RGB or (height, width, 4) RGBA "
    "of uint8, uint16 or bool; convert the array first"
)


def load_image(source: ImageSource, *, max_pixels: int = 100_000_000) -> Image.Image:
    """Return the picture as a new upright RGB picture without metadata.

    source      a file name, the bytes of a file, a Pillow picture, or an array [H, W], [H, W, 1], [H, W, 3], [H, W, 4]
                of uint8, uint16 or bool
    max_pixels  larger pictures are refused before they are decoded

    Raises ImageError: missing, empty, truncated, damaged, too large or no picture at all.
    """
    if isinstance(source, Image.Image):
        return _upright_rgb(source, "the given picture", max_pixels)
    if isinstance(source, np.ndarray):
        return _upright_rgb(_picture_from_array(source, max_pixels), "the given array", max_pixels)
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "the given bytes", max_pixels)
    if not isinstance(source, (str, os.PathLike)):
        raise ImageError(
            f"a picture cannot be made from {type(source).__name__}; "
            "expected a file name, bytes, a Pillow picture or a NumPy array"
        )
    what = _named(source)
    with _open_file(source, what) as stream:
        return _decode(stream, what, max_pixels)


@contextmanager
def _open_file(source: str | os.PathLike[str], what: str) -> Iterator[IO[bytes]]:
    try:
        path = Path(source)
        if path.is_dir():
            raise ImageError(f"{what} is a directory; expected a picture file; name one file")
        if not path.exists():
            raise ImageError(f"{what} does not exist; expected a picture file; check the name")
        if not path.is_file():  # opening a pipe would wait for ever
            raise ImageError(f"{what} is not a regular file; expected a picture file; save the picture first")
        stream = path.open("rb")
    except (OSError, ValueError, TypeError) as error:  # ValueError: a null byte in the name; TypeError: a name in bytes
        raise ImageError(f"{what} cannot be opened ({_reason(error)}); expected a readable picture file") from error
    with stream:
        yield stream


def require_picture(source: str | os.PathLike[str]) -> None:
    """Raise ImageError for a file that is missing or begins like no picture; nothing is decoded."""
    what = _named(source)
    with _open_file(source, what) as stream:
        prefix = stream.read(_PREFIX)
        if not _readers(prefix, what):
            raise ImageError(_no_picture(prefix, what))


def _named(source: str | os.PathLike[str]) -> str:
    return repr(os.fsdecode(source)[-200:])  # the end of a very long name tells more than its start


def _readers(prefix: bytes, what: str) -> Sequence[Callable[[IO[bytes], str], Image.Image]]:
    """Pillow's readers for what begins like this."""
    if not prefix:
        raise ImageError(f"{what} is empty; expected a picture ({_FORMATS_TEXT}); check how it was written")
    # Image.open is not used: it warns or raises by a process-wide limit that belongs to the application, not to us.
    Image.init()
    found = []
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        accepted = accept(prefix) if accept is not None else False
        if (
            factory is not None and accepted and not isinstance(accepted, str)
        ):  # text: Pillow was built without this format
            found.append(factory)
    return found


def _decode(stream: IO[bytes], what: str, max_pixels: int) -> Image.Image:
    prefix = stream.read(_PREFIX)
    for factory in _readers(prefix, what):
        stream.seek(0)
        try:
            picture = factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # how Pillow's readers say "not mine"
            continue
        except Exception as error:  # a reader fed damaged bytes may raise anything
            raise ImageError(_damaged(what, error)) from error
        with picture:
            return _upright_rgb(picture, what, max_pixels)
    raise ImageError(_no_picture(prefix, what))


def _no_picture(prefix: bytes, what: str) -> str:
    if is_video(prefix):
        return f"{what} is a video; expected a still picture ({_FORMATS_TEXT}); give one of its frames"
    return f"{what} is not a picture that can be read, or its header is damaged; expected {_FORMATS_TEXT}; convert it first"


_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
"""Kinds of pictures that are stored as MP4 is."""


def is_video(prefix: bytes) -> bool:
    """Whether a file that begins so is MP4, QuickTime, Matroska, WebM, AVI, MPEG or Flash video."""
    boxed = prefix[4:8] in (b"moov", b"mdat", b"wide") or (prefix[4:8] == b"ftyp" and prefix[8:12] not in _STILL_BRANDS)
    return boxed or prefix[8:12] == b"AVI " or prefix.startswith((b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"FLV"))


def _upright_rgb(picture: Image.Image, what: str, max_pixels: int) -> Image.Image:
    _check_size(picture.height, picture.width, what, max_pixels)
    try:
        picture.load()
        rgb = _rgb(picture, what)
    except ImageError:
        raise
    except Exception as error:  # a decoder fed damaged bytes may raise anything
        raise ImageError(_damaged(what, error)) from error
    # After load(): TIFF turns itself while loading, and PNG may carry its EXIF after the pixels.
    turn = _UPRIGHT.get(_orientation(picture))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info.clear()  # a second load_image must not turn it again
    return upright


def _check_size(height: int, width: int, what: str, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{what} is {width}x{height} pixels; expected at least 1x1; give a picture with pixels")
    if height * width > max_pixels or max(height, width) > MAX_SIDE_PX:
        raise ImageError(
            f"{what} is {width}x{height} pixels; expected at most {max_pixels} pixels "
            f"and no side above {MAX_SIDE_PX}; scale it down first"
        )


def _rgb(picture: Image.Image, what: str) -> Image.Image:
    """A new RGB picture; transparency on white."""
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture, what)
    if picture.mode == "F":
        raise ImageError(f"{what} has floating-point pixels; expected integers; convert it to 8 bits first")
    if picture.mode == "La":  # the one mode that Pillow converts to LA only
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image, what: str) -> Image.Image:
    """The upper 8 of 16 bits, as Pillow itself does for 16-bit colour; its own convert() turns 16-bit grey all white."""
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise ImageError(
            f"{what} has integer pixels from {low} to {high}; expected 0 to 65535; convert it to 8 bits first"
        )
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception as error:  # noqa: BLE001  damaged metadata is no reason to refuse sound pixels
        logger.debug("EXIF cannot be read, the picture is taken as upright: %s", error)
        return 1


def _picture_from_array(array: NDArray[Any], max_pixels: int) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"the given array has shape {array.shape}; {_ARRAY_TEXT}")
    if array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise ImageError(f"the given array holds {array.dtype}; {_ARRAY_TEXT}")
    _check_size(array.shape[0], array.shape[1], "the given array", max_pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.bool_:
        array = np.where(array, 255, 0)
    elif array.dtype == np.uint16:
        array = array >> 8
    return Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8))


def _damaged(what: str, error: Exception) -> str:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"{what} is refused by Pillow ({_reason(error)}); expected a smaller picture; scale it down first"
    return f"{what} cannot be decoded ({_reason(error)}); expected a whole, undamaged picture; fetch or save it again"


def _reason(error: Exception) -> str:
    """The cause on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
