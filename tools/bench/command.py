"""Measure what the product promises, and write the tables of docs/measurements.

Every comparison is interleaved (each round runs all contenders once, in a new order) and every ratio is paired, with a 95 % interval.
Processor time of the measured process and wall time are both shown; on a busy machine only the first means much. Models are made, with
random weights that differ per layer, and kept in --work together with their bundles, so that a second run starts at once.

Examples:
  python tools/bench.py all --out docs/measurements
  python tools/bench.py speed --quick --layers 4 --out /tmp/quick
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tools.bench import families, grids, inside_speed, memory, prefill_plan, second_question, speed
from tools.bench.page import Page, write_page
from tools.bench.settings import ROOT, Settings, say

BENCHMARKS = {
    "prefill-plan": prefill_plan.measure,
    "speed": speed.measure,
    "memory": memory.measure,
    "families": families.measure,
    "grids": grids.measure,
    "second-question": second_question.measure,
    "inside-speed": inside_speed.measure,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("benchmark", choices=(*BENCHMARKS, "all"))
    line.add_argument("--out", type=Path, default=ROOT / "docs/measurements", help="folder for .md and .json")
    line.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "edgeprune-bench", help="models and bundles (15 GB)"
    )
    line.add_argument("--rounds", type=int, help="rounds of full prefills [default: 6]; others follow")
    line.add_argument("--quick", action="store_true", help="two rounds: shows that it runs, supports no claim")
    line.add_argument(
        "--resume", action="store_true", help="keep the samples of an interrupted run of the same options"
    )
    line.add_argument("--threads", type=int, default=0, help="of ONNX Runtime and torch; 0: what each chooses itself")
    line.add_argument("--size", choices=("0.5b", "tiny"), default="0.5b", help="of the model of `speed` and `memory`")
    line.add_argument("--export-size", choices=("2gb", "0.5b", "tiny"), default="2gb", help="exported by `memory`")
    line.add_argument("--layers", type=int, help="decoder layers, instead of the size's own (8 in prefill-plan)")
    line.add_argument("--no-eager", action="store_true", help="leave transformers out of `speed`")
    return line


def main() -> int:
    """Run one benchmark or all; exit code 0 whether or not targets were met: the pages say which."""
    given = parser().parse_args()
    settings = Settings(
        work=given.work,
        rounds=given.rounds,
        quick=given.quick,
        resume=given.resume,
        threads=given.threads,
        size=given.size,
        export_size=given.export_size,
        layers=given.layers,
        eager=not given.no_eager,
    )
    settings.work.mkdir(parents=True, exist_ok=True)
    for name in BENCHMARKS if given.benchmark == "all" else (given.benchmark,):
        say(f"== {name}")
        page: Page = BENCHMARKS[name](settings)
        path = write_page(page, given.out, settings)
        print(path.read_text(encoding="utf-8"))
        say(f"written: {path}")
    return 0
