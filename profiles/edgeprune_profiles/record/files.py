"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edgeprune_runtime.errors import MeasurementError


def write_whole(path: Path, content: bytes) -> None:
    """Write through a temporary sibling and a rename: a kill leaves the old file or the new one.

    Missing folders are made. Raises MeasurementError when the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise MeasurementError(f"cannot write {path}: {error}; choose another place") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise MeasurementError(f"cannot write {path}: {error}; choose another place") from error
