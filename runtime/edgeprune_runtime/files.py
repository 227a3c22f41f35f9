"""Files that are written whole or not at all, and journals of work that may be killed and goes on where it stopped."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from edgeprune_runtime.claims import work_place
from edgeprune_runtime.errors import MeasurementError, OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT}
LineT = TypeVar("LineT")


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a kill leaves the old file or the new one.

    Missing folders are made. A link stays one, what it points to is replaced; a device or a pipe is written to.
    Raises OutputError when the place cannot be written to.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged(path) as part:
            part.write_bytes(content)
    except OSError as error:
        if is_full(error):
            raise OutputError(
                f"cannot write {path}: the disk is full; it needs {len(content)} bytes, {_free(path.parent)} are left in {path.parent}; "
                "free space or choose another place"
            ) from error
        raise OutputError(f"cannot write {path}: {error}; choose another place") from error


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is behind an error, also where a library has made an error of its own of it."""
    while error is not None:
        if getattr(error, "errno", None) in _FULL or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_told(out: Path, folder: Path) -> Iterator[None]:
    """Raise OutputError, with what was written of `out` in `folder` and what is left, where the disk is full."""
    try:
        yield
    except Exception as error:  # safetensors and onnx have errors of their own for it
        if not is_full(error):
            raise
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        raise OutputError(
            f"cannot write {out}: the disk is full; it needs more than the {written} bytes written so far, {_free(folder)} are left in "
            f"{out.parent}; free space or choose another place. Nothing of it was kept"
        ) from error


def _free(folder: Path) -> int:
    """Bytes that can still be written there; 0 where that cannot be asked."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def write_json(path: Path, value: Any) -> None:
    """`write_whole` of anything that msgspec encodes, indented, for people too."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A new empty file beside `path` to write to; when the block ends well it takes the place of `path`.

    Its rights are those of any new file (umask). What a killed run left for `path` is removed. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    with work_place(target, secrets.token_hex(4), folder=False, alone=False) as part:
        yield part
        replace_file(part, target)


def replace_file(part: Path, target: Path) -> None:
    """Flush `part` to disk and give it the name of a sibling, in one step. Raises OSError."""
    flush(part)
    part.replace(target)
    with suppress(OSError):  # a folder that may not be read, or a file system that cannot do it for folders
        flush(target.parent)


def flush(path: Path) -> None:
    """Have a file or folder written to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Journal(Generic[LineT]):
    """Results of one kind, a line of JSON each, kept as they come: `with Journal(...) as journal` reads those of a killed run.

    The first line is `about`, everything that decides the results: a file that belongs to other work is refused, because
    mixing the two would be silent nonsense, or, with `anew`, begun again. A torn last line, the trace of a kill, is cut off.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], kind: type[LineT], *, anew: bool = False) -> None:
        self.lines: list[LineT] = []
        self._path = path
        self._about = {"about": msgspec.to_builtins(about)}
        self._kind = kind
        self._anew = anew
        self._file: BinaryIO | None = None

    def __enter__(self) -> Journal[LineT]:
        """Raises MeasurementError for a file that belongs to other work, or is no journal."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise OutputError(f"cannot use {self._path}: {error.strerror or error}; choose another place") from error
        whole = content[: content.rfind(b"\n") + 1]
        first, *rest = whole.splitlines() or [b""]
        if first and not self._belongs(first):
            whole, rest = b"", []
        self.lines = [self._decoded(line, number, self._kind) for number, line in enumerate(rest, 2)]
        self._file = self._path.open("ab")
        self._file.truncate(len(whole))
        if not whole:
            self._write(self._about)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk; it was told when the line was written
                self._file.close()
            self._file = None

    def add(self, line: LineT) -> None:
        """Append and flush: after this a kill of the process does not lose it."""
        self._write(line)
        self.lines.append(line)

    def _write(self, line: Any) -> None:
        if self._file is None:
            raise RuntimeError("the journal is not open; use it in a `with` block")
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path}: {error.strerror or error}, {_free(self._path.parent)} bytes are left; free space and run the same "
                "command again: it goes on from what is there"
            ) from error

    def _belongs(self, first: bytes) -> bool:
        if self._anew:
            return first == msgspec.json.encode(self._about)
        found = self._decoded(first, 1, dict[str, dict[str, Any]]).get("about", {})
        wanted = self._about["about"]
        other = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        if other:
            raise MeasurementError(
                f"{self._path} holds results of other work ({', '.join(other)} differ); "
                "delete it to start anew, or name another file"
            )
        return True

    def _decoded(self, line: bytes, number: int, kind: type[Any]) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MeasurementError(
                f"{self._path}, line {number}: not a line of this journal ({error}); "
                "delete the file to start anew, or name another"
            ) from error
