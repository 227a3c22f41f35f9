"""What the user asked of a benchmark run, and how it talks."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
        """Rounds of a comparison that usually has `usual`."""
        return self.rounds or (2 if self.quick else usual)

    def shown(self) -> dict[str, str]:
        """The options that shape the numbers, for the page."""
        return {name: str(value) for name, value in asdict(self).items() if name not in ("work", "resume")}


def say(text: str) -> None:
    """Progress, on stderr, with the seconds since the start."""
    print(f"[{time.monotonic() - _START:6.0f} s] {text}", file=sys.stderr, flush=True)
