"""Instruments that look twice: when a window opens and when it closes. `board` on any Linux, `jetson_board` on a Jetson."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edgeprune_runtime.meters.boards.jetson import JetsonState, is_jetson, jetson_state
from edgeprune_runtime.meters.clocks import BoardState, board_state

SnapshotT = TypeVar("SnapshotT")


@dataclass(frozen=True, slots=True)
class Snapshots(Generic[SnapshotT]):
    """What was seen at both ends of a window of `duration_s`; `source` says why when that is nothing."""

    source: str
    duration_s: float
    first: SnapshotT
    last: SnapshotT


class LookWindow(Generic[SnapshotT]):
    def __init__(self, look: Callable[[], SnapshotT], source: str) -> None:
        self._look = look
        self._source = source
        self._start_s = time.monotonic()
        self._first = look()
        self._reading: Snapshots[SnapshotT] | None = None

    def close(self) -> None:
        self._reading = Snapshots(self._source, time.monotonic() - self._start_s, self._first, self._look())

    def reading(self) -> Snapshots[SnapshotT]:
        if self._reading is None:
            raise RuntimeError("the window is still open; leave its `with` block first")
        return self._reading


class SnapshotMeter(Generic[SnapshotT]):
    """Looks with `look`; `why` says, as a sentence, that there is nothing to see here."""

    def __init__(self, name: str, look: Callable[[], SnapshotT], why: Callable[[], str | None]) -> None:
        self.name = name
        self._look = look
        self._why = why

    def why_unavailable(self) -> str | None:
        return self._why()

    @contextmanager
    def window(self) -> Iterator[LookWindow[SnapshotT]]:
        why = self._why()
        window = LookWindow(self._look, "sysfs" if why is None else f"unknown: {why}")
        yield window
        window.close()


def board_meter(root: Path = Path("/")) -> SnapshotMeter[BoardState]:
    """Temperatures, clocks and throttling."""

    def why() -> str | None:
        state = board_state(root, 0.0)
        if state.temperature_c or state.clock_hz:
            return None
        return (
            f"neither thermal zones nor clocks can be read under {root / 'sys'}: virtual machines and most containers "
            "hide them; measure on the board itself"
        )

    return SnapshotMeter("board", lambda: board_state(root, time.monotonic()), why)


def jetson_meter(root: Path = Path("/")) -> SnapshotMeter[JetsonState]:
    """GPU load and clock, fan, power mode, unified memory."""

    def why() -> str | None:
        return None if is_jetson(root) else "this is no Jetson: the device tree does not name a Tegra"

    return SnapshotMeter("jetson_board", lambda: jetson_state(root), why)
