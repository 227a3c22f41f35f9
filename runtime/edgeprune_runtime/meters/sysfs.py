"""Read one small file of the kernel. What cannot be read is None: never an exception, never 0.

Sensors that sleep answer EAGAIN (powered-off thermal zones of a Jetson), others need root, others are not there: to a
meter all of that is "unknown". Files are read as bytes, since device-tree files end in NUL.
"""

from __future__ import annotations

import errno
from pathlib import Path


def text(path: Path) -> str | None:
    """The file's text, stripped; None when it cannot be read or is empty."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The whole number that the file holds; None when it holds none. Some drivers write a unit after it."""
    words = (text(path) or "").split()
    try:
        return int(words[0]) if words else None
    except ValueError:
        return None


def why_silent(path: Path) -> str:
    """Why a file gives no number, in words: a sensor that has no value now is not one that only root reads."""
    try:
        path.read_bytes()
    except PermissionError:
        return "only root may read it"
    except OSError as error:
        if error.errno == errno.ENODATA:
            return "it has no value now: the channel is switched off or its device sleeps"
        return (error.strerror or type(error).__name__).lower()
    return "it holds no number"
