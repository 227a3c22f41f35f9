"""Run one prefill graph on one prompt in this process and print what that added to its memory, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.bench.bare import BareGraph, prefill_noise
from tools.bench.process import memory_of


def main(folder: Path, rows: str, length: int, threads: int) -> None:
    spec = json.loads((folder / f"rows{rows}.json").read_text())
    before = memory_of()
    resident = (folder / "precision").read_text() == "int8"
    graph = BareGraph(folder, spec, {}, threads=threads, resident=resident)
    prefill_noise(graph, length)
    after = memory_of()
    found = {"anonymous": after["anonymous"] - before["anonymous"], "resident": after["rss"] - before["rss"]}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
