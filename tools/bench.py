"""Benchmarks of the product's promises: `python tools/bench.py --help`. The measurements themselves are in the folder `bench`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
