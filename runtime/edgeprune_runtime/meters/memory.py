"""Resident memory of this process: baseline, peak over a window, anonymous share, PSS.

Two sources for the peak. The kernel's high-water mark (VmHWM in /proc/self/status) misses nothing but covers the whole
life of the process, so it answers only when it rose during the window. Otherwise the highest of the samples that a
thread takes every few milliseconds from /proc/self/statm is reported; it can miss a shorter spike. The kernel's mark is
never reset: that would disturb other windows and tools that watch this process.

PSS (shared pages divided among their users) is read once, when the window ends: the kernel walks all page tables for
it. Off Linux psutil gives the resident size; what it cannot tell stays None.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from edgeprune_runtime.installed import how_to_install
from edgeprune_runtime.meters.sampler import sampled


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """All in bytes. `source` is that of the peak.

    baseline_bytes   resident size when the window opened
    peak_bytes       highest resident size in the window
    anonymous_bytes  part of the highest *sample* that no file backs (heap, KV cache; not memory-mapped weights)
    pss_bytes        proportional set size when the window closed
    """

    source: str
    baseline_bytes: int
    peak_bytes: int
    anonymous_bytes: int | None
    pss_bytes: int | None


class MemorySource(Protocol):
    """Where sizes in bytes come from."""

    name: str

    def resident(self) -> tuple[int, int | None]:
        """Resident size and its anonymous part. Called often: must be cheap."""

    def high_water(self) -> int | None:
        """Highest resident size since the process began."""

    def pss(self) -> int | None:
        """Proportional set size."""


class ProcSource:
    """Linux. `root` is the folder of the process in the proc file system."""

    name = "proc:statm"

    def __init__(self, root: Path = Path("/proc/self"), page_bytes: int | None = None) -> None:
        self._root = root
        self._page_bytes = page_bytes or os.sysconf("SC_PAGE_SIZE")

    def resident(self) -> tuple[int, int | None]:
        _, resident, shared, *_ = (self._root / "statm").read_text().split()
        return int(resident) * self._page_bytes, (int(resident) - int(shared)) * self._page_bytes

    def high_water(self) -> int | None:
        return self._kib("status", "VmHWM:")

    def pss(self) -> int | None:
        return self._kib("smaps_rollup", "Pss:")

    def _kib(self, file: str, label: str) -> int | None:
        try:
            lines = (self._root / file).read_text().splitlines()
        except OSError:  # smaps_rollup needs Linux 4.14, and a sandbox may hide it
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(label)), None)


class PsutilSource:
    """Anywhere else."""

    name = "psutil:rss"

    def __init__(self) -> None:
        import psutil

        self._failure = psutil.Error
        try:
            self._process = psutil.Process()
        except psutil.Error as error:  # Linux without /proc
            raise OSError(f"the memory of this process cannot be read ({error})") from error

    def resident(self) -> tuple[int, int | None]:
        try:
            return int(self._process.memory_info().rss), None
        except self._failure as error:
            raise OSError(f"the memory of this process cannot be read ({error})") from error

    def high_water(self) -> int | None:
        return None

    def pss(self) -> int | None:
        return None


class MemoryWindow:
    def __init__(self, source: MemorySource, period_s: float) -> None:
        self._source = source
        self._period_s = period_s
        self._baseline: int = source.resident()[0]
        self._mark = source.high_water()
        self._top: tuple[int, int | None] = (0, None)
        self._reading: MemoryReading | None = None

    def sample(self) -> None:
        self._top = max(self._top, self._source.resident(), key=lambda pair: pair[0])

    def close(self) -> None:
        peak, anonymous = self._top
        source = f"{self._source.name} every {self._period_s * 1e3:g} ms"
        mark = self._source.high_water()
        if mark is not None and self._mark is not None and mark > self._mark and mark >= peak:
            peak, source = mark, "proc:VmHWM"
        self._reading = MemoryReading(source, self._baseline, peak, anonymous, self._source.pss())

    def reading(self) -> MemoryReading:
        if self._reading is None:
            raise RuntimeError("the memory window is still open; leave its `with` block first")
        return self._reading


class MemoryMeter:
    """Resident memory of this process. The sampling thread costs processor time: keep it away from timed runs."""

    name: ClassVar[str] = "memory"

    def __init__(self, source: MemorySource | None = None, period_s: float = 0.005) -> None:
        self._source = source
        self._period_s = period_s

    def why_unavailable(self) -> str | None:
        try:
            (self._source or _source_here()).resident()
        except ImportError:
            return f"this is not Linux and psutil is missing; install it with {how_to_install('psutil')}"
        except OSError as error:
            return f"{error}; mount the proc file system, or install psutil"
        return None

    @contextmanager
    def window(self) -> Iterator[MemoryWindow]:
        window = MemoryWindow(self._source or _source_here(), self._period_s)
        with sampled(window.sample, self._period_s):
            yield window
        window.close()


def _source_here() -> MemorySource:
    return ProcSource() if sys.platform.startswith("linux") and Path("/proc/self/statm").exists() else PsutilSource()
