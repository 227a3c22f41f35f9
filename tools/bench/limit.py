"""A limit on memory that the kernel enforces: a control group (version 1 or 2) made for one command.

What counts is what the command touches first: its anonymous memory and the page cache of its files. When that reaches the limit the
kernel drops clean pages of files and writes dirty ones out; when only anonymous memory is left to take, it kills. A command that
finishes has shown that it needs no more, however many files it maps, beside pages that others brought in and are charged for: mostly
the code of libraries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Files:
    """Where a version of control groups keeps what is needed here. `swap`: file and value (None: the limit) that forbid swapping."""

    limit: str
    peak: str
    events: str
    swap: tuple[str, int | None]


_V1 = Files(
    "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", ("memory.memsw.limit_in_bytes", None)
)
_V2 = Files("memory.max", "memory.peak", "memory.events", ("memory.swap.max", 0))


@dataclass(frozen=True)
class Group:
    """A control group with a limit in bytes."""

    folder: Path
    files: Files

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command, run by a shell that enters the group first and is then replaced by it: same process, same number."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command]

    def peak_bytes(self) -> int | None:
        """The most that was ever charged, page cache included; None where the kernel does not keep it."""
        with suppress(OSError, ValueError):
            return int((self.folder / self.files.peak).read_text())
        return None

    def killed(self) -> bool:
        """Whether the kernel killed for want of memory."""
        fields = dict(line.split() for line in (self.folder / self.files.events).read_text().splitlines())
        return int(fields.get("oom_kill", 0)) > 0


@contextmanager
def memory_limit(limit: int) -> Iterator[Group | str]:
    """A group limited to `limit` bytes while the context lasts, or why there is none: then nothing is limited."""
    reasons = []
    for parent, files in _parents():
        folder = parent / f"edgeprune-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
            continue
        group = Group(folder, files)
        try:
            _limit(folder, files, limit)
            subprocess.run(group.inside(["true"]), check=True, capture_output=True)  # entering may be forbidden too
        except (OSError, subprocess.CalledProcessError) as error:
            reasons.append(f"{parent}: {getattr(error, 'strerror', 'a process cannot enter')}")
            _remove(folder)
            continue
        try:
            yield group
        finally:
            _remove(folder)
        return
    yield "no control group can be made here (" + ("; ".join(reasons) or f"no {_ROOT} with memory control") + ")"


def _parents() -> Iterator[tuple[Path, Files]]:
    """Groups that a new one may be made in: this process's own, then the root that is visible."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if "memory" in controllers.split(","):
                base, files = _ROOT / "memory", _V1
            elif not controllers and (_ROOT / "cgroup.controllers").is_file():
                base, files = _ROOT, _V2
            else:
                continue
            for parent in dict.fromkeys((base / own.lstrip("/"), base)):
                if parent.is_dir():
                    yield parent, files


def _limit(folder: Path, files: Files, limit: int) -> None:
    if not (folder / files.limit).is_file():  # version 2 hands a controller down only when told to
        (folder.parent / "cgroup.subtree_control").write_text("+memory")
    (folder / files.limit).write_text(str(limit))
    name, value = files.swap
    if (folder / name).is_file():
        (folder / name).write_text(str(limit if value is None else value))


def _remove(folder: Path) -> None:
    """End what is left inside and remove the group; the kernel needs a moment to let go of processes that ended."""
    for _ in range(100):
        with suppress(OSError):
            folder.rmdir()
            return
        with suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.1)


def forget(files: Iterable[Path]) -> None:
    """Drop files from the page cache: pages that another group was charged for would be free for the measured one."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
