"""Memory of processes, from the proc file system, and child processes watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tools.bench.settings import ROOT

_FIELDS = {"VmRSS:": "rss", "VmHWM:": "peak", "RssAnon:": "anonymous", "RssFile:": "file", "Pss:": "pss"}
_PSS_EVERY = 25  # looks; each walks all page tables of the child


def memory_of(pid: int | str = "self", *, pss: bool = True) -> dict[str, int]:
    """Bytes: rss, peak (the kernel's high-water mark), anonymous, file and pss. {} when it is gone; reading pss takes a while."""
    found = {}
    try:
        for file in ("status", "smaps_rollup") if pss else ("status",):
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if (label := line.split(maxsplit=1)[0]) in _FIELDS:
                    found[_FIELDS[label]] = int(line.split()[1]) * 1024
    except OSError:
        return found
    return found


def mapped_bytes(name: str) -> int:
    """Bytes that files called `name` add to this process's resident size.

    Like the resident size itself, this counts a page once per mapping that touched it: sessions map the same file side by side.
    """
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split(maxsplit=5)
        if "-" in head[0] and not head[0].endswith(":"):
            inside = len(head) == 6 and head[5].rsplit("/", 1)[-1] == name
        elif inside and head[0] == "Rss:":
            total += int(head[1]) * 1024
    return total


@dataclass(frozen=True)
class Watched:
    """A finished child: its highest sizes in bytes, and what it took.

    unique_bytes  resident pages, each counted once, where the resident size counts a page for every mapping of it
    """

    peak_bytes: int
    anonymous_bytes: int
    unique_bytes: int
    wall_s: float
    cpu_s: float


class Ended(RuntimeError):
    """A watched child failed; `seen` is what it took until then."""

    def __init__(self, text: str, seen: Watched) -> None:
        super().__init__(text)
        self.seen = seen


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def run_watched(command: list[str], log: Path, period_s: float = 0.02) -> Watched:
    """Run a command and look at its memory every `period_s`; the resident peak is the kernel's own mark.

    ru_maxrss is not used: a child inherits it from the process that started it.
    Raises Ended with the end of its output when it fails.
    """
    peak = anonymous = unique = looks = 0
    began = time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        while True:
            now = memory_of(child.pid, pss=looks % _PSS_EVERY == _PSS_EVERY - 1)
            peak, anonymous = max(peak, now.get("peak", 0)), max(anonymous, now.get("anonymous", 0))
            unique, looks = max(unique, now.get("pss", 0)), looks + 1
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(period_s)
        child.returncode = os.waitstatus_to_exitcode(status)
    seen = Watched(peak, anonymous, unique, time.perf_counter() - began, usage.ru_utime + usage.ru_stime)
    if child.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise Ended(f"{' '.join(command)} ended with {child.returncode}:\n{tail}", seen)
    return seen
