"""What the user asked of a benchmark run, and how it talks."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FULL_PREFILLS = 6  # the fewest pairs that support a claim
_START = time.monotonic()


@dataclass(frozen=True)
class Settings:
    """See the command line's help."""

    work: Path
    rounds: int | None = None
    quick: bool = False
    resume: bool = False
    threads: int = 0
    size: str = "0.5b"
    export_size: str = "2gb"
    layers: int | None = None
    eager: bool = True

    def count(self, usual: int) -> int:
        """Rounds of a comparison that usually has `usual`; `rounds` is for those of full prefills, others follow in proportion."""
        if self.quick:
            return 2
        return usual if self.rounds is None else max(2, usual * self.rounds // FULL_PREFILLS)

    def shown(self) -> dict[str, str]:
        """The options that shape the numbers, for the page."""
        return {name: str(value) for name, value in asdict(self).items() if name not in ("work", "resume")}


def say(text: str) -> None:
    """Progress, on stderr, with the seconds since the start."""
    print(f"[{time.monotonic() - _START:6.0f} s] {text}", file=sys.stderr, flush=True)


def digest(places: Iterable[str]) -> str:
    """Changes when one of these files, or a Python file under these folders, does."""
    found = hashlib.sha256()
    for place in places:
        for path in sorted((ROOT / place).rglob("*.py")) or [ROOT / place]:
            found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:10]
