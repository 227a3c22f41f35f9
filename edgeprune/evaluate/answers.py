"""Answers on disk, one JSON line each, so that an evaluation that was killed goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import msgspec

from edgeprune_runtime.files import Journal


class Answered(msgspec.Struct, frozen=True):
    """`error` is why there is no answer; it counts as wrong and is counted."""

    number: int
    selection: str
    answer: str
    error: str | None = None


class AnswerLog:
    """A journal of answers. `about` is everything that decides the answers: hash of data and bundle, settings."""

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self._journal = Journal(path, about, Answered)
        self._known: dict[tuple[int, str], Answered] = {}

    def __enter__(self) -> AnswerLog:
        self._journal.__enter__()
        self._known = {(one.number, one.selection): one for one in self._journal.lines}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.__exit__(kind, error, trace)

    def get(self, number: int, selection: str) -> Answered | None:
        return self._known.get((number, selection))

    def add(self, answered: Answered) -> None:
        """Append and flush: after this a kill of the process does not lose it."""
        self._journal.add(answered)
        self._known[answered.number, answered.selection] = answered
