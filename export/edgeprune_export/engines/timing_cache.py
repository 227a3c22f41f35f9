"""TensorRT's timing cache, shared by all builds of this user: read, used, merged and written back under a file lock.

How fast a kernel is on this GPU is measured once and kept, so that the second build of a similar model takes a fraction of the time.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune_runtime.engines.spec import EngineKey
from edgeprune_runtime.files import staged


@dataclass(frozen=True)
class TimingCache:
    """One file per TensorRT version and GPU."""

    path: Path

    def open(self, config: Any) -> None:
        """Put what is known into a builder configuration."""
        known = b""
        with suppress(OSError), self._locked():  # a folder that cannot be written to costs time, not the build
            known = self.path.read_bytes() if self.path.exists() else b""
        config.set_timing_cache(config.create_timing_cache(known), False)

    def merge(self, config: Any) -> None:
        """Add what this build measured to what others wrote meanwhile."""
        mine = config.get_timing_cache()
        with suppress(OSError), self._locked():
            if self.path.exists():
                mine.combine(config.create_timing_cache(self.path.read_bytes()), True)
            with staged(self.path) as part:
                part.write_bytes(memoryview(mine.serialize()))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def timing_cache(key: EngineKey) -> TimingCache:
    """The user's cache for the device that `key` was taken on."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeprune"
    device = re.sub(r"[^\w.]+", "-", "-".join(filter(None, (key.gpu, key.power_mode))))
    return TimingCache(folder / f"timing-{key.runtime}-{key.version}-{device}.cache")
