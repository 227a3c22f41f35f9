"""Answers on disk, one JSON line each, so that an evaluation that was killed goes on where it stopped.

The first line says what the answers belong to; a file that belongs to other data, another bundle or other settings is
refused, because mixing them would be silent nonsense. A torn last line, the trace of a kill, is cut off.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from edgeprune_runtime.errors import MeasurementError


class Answered(msgspec.Struct, frozen=True):
    """`error` is why there is no answer; it counts as wrong and is counted."""

    number: int
    selection: str
    answer: str
    error: str | None = None


class _Header(msgspec.Struct, frozen=True):
    about: dict[str, str]


class AnswerLog:
    """A file of answers. `about` is everything that decides the answers: hash of data and bundle, settings."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self._path = path
        self._about = about
        self._file: BinaryIO | None = None
        self._known: dict[tuple[int, str], Answered] = {}

    def __enter__(self) -> AnswerLog:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        self._read(whole.splitlines())
        self._file = self._path.open("ab")
        self._file.truncate(len(whole))
        if not whole:
            self._write(_Header(self._about))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def get(self, number: int, selection: str) -> Answered | None:
        return self._known.get((number, selection))

    def add(self, answered: Answered) -> None:
        """Append and flush: after this a kill of the process does not lose it."""
        self._write(answered)
        self._known[answered.number, answered.selection] = answered

    def _write(self, line: msgspec.Struct) -> None:
        if self._file is None:
            raise RuntimeError("the answer log is not open; use it in a `with` block")
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()

    def _read(self, lines: list[bytes]) -> None:
        for line_number, line in enumerate(lines, 1):
            try:
                if line_number == 1:
                    self._check(msgspec.json.decode(line, type=_Header).about)
                else:
                    answered = msgspec.json.decode(line, type=Answered)
                    self._known[answered.number, answered.selection] = answered
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise MeasurementError(
                    f"{self._path}, line {line_number}: not an answer of an evaluation ({error}); "
                    "delete the file to start anew, or name another"
                ) from error

    def _check(self, found: dict[str, str]) -> None:
        other = sorted(key for key in found.keys() | self._about.keys() if found.get(key) != self._about.get(key))
        if other:
            raise MeasurementError(
                f"{self._path} holds answers of another evaluation ({', '.join(other)} differ); "
                "delete it to start anew, or name another file"
            )
