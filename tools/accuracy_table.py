"""Accuracy against budget on the reference model's held-out pictures, written as docs/measurements/accuracy.md.

Every method stands beside its controls at the same K, with position ids kept and renumbered; newline policies and int8 are compared
for the bundle's own method. Each run is resumable: kill it and start it again.

    python tools/accuracy_table.py --work build/accuracy --scenes 150
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tools" / "reference_vlm" / "checkpoint"
BUDGETS = ("1.0", "0.4", "0.2", "0.1")


def call(*command: str) -> None:
    print("$", *command, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def edgeprune(*words: str) -> None:
    call("-c", "from edgeprune.cli import main; main()", *words)


def evaluated(work: Path, precision: str, positions: str, newline: str, methods: tuple[str, ...]) -> dict:
    """The comparison of one bundle under one policy, from the file of an earlier run where there is one."""
    out = work / f"{precision}-{positions}-{newline}.json"
    if not out.is_file():
        words = ["eval", str(work / f"{precision}.bundle"), "--data", str(work / "heldout" / "questions.jsonl")]
        words += ["--positions", positions, "--separators", newline, "--answers", str(out.with_suffix(".jsonl"))]
        words += [part for method in methods for part in ("--method", method)]
        edgeprune(*words, "--out", str(out), "--max-tokens", "8", "--threads", "1")
    return json.loads(out.read_text(encoding="utf-8"))


def cell(row: dict, metric: str) -> str:
    """Accuracy in points, with the difference from budget 1.0 and its interval."""
    score = f"{100 * row['scores'][metric]:.1f}"
    difference = row["differences"].get(metric)
    if difference is None:
        return score
    bounds = f"{100 * difference['point']:+.1f} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
    return f"{score} ({bounds})"


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(work: Path, scenes: int) -> str:
    everything = ("hired", "random", "uniform", "downsample", "full")
    kept = evaluated(work, "fp32", "keep", "all", everything)
    closed = evaluated(work, "fp32", "renumber", "all", everything)
    rows_only = evaluated(work, "fp32", "keep", "rows", ("hired", "full"))
    none = evaluated(work, "fp32", "keep", "none", ("hired", "full"))
    int8 = evaluated(work, "int8", "keep", "all", ("hired", "full"))
    metric = kept["headline"]
    kinds = tuple(sorted(kept["rows"][0]["kinds"]))
    main = [
        (
            str(row["method"]),
            f"{row['keep_ratio']:g}",
            policy,
            cell(row, metric),
            *(f"{100 * row['kinds'][k]:.0f}" for k in kinds),
        )
        for policy, comparison in (("keep", kept), ("renumber", closed))
        for row in comparison["rows"]
        if not (policy == "renumber" and row["keep_ratio"] == 1)
    ]
    variants = [
        (name, *(cell(row, metric) for row in comparison["rows"] if row["method"] in ("hired", "full")))
        for name, comparison in (
            ("fp32, all newlines", kept),
            ("fp32, newlines of rows with a kept token", rows_only),
            ("fp32, no newlines", none),
            ("int8, all newlines", int8),
        )
    ]
    ratios = tuple(f"{row['keep_ratio']:g}" for row in kept["rows"] if row["method"] in ("hired", "full"))
    return f"""# Accuracy against budget

Reference model ([card](../../tools/reference_vlm/README.md)), {scenes} held-out pictures, {kept["questions"]} questions,
{metric.replace("_", " ")} in points; in brackets the difference from budget 1.0 with a 95 % paired bootstrap interval over pictures.
Newlines are not counted in the budget. Printed by `python tools/accuracy_table.py --work build/accuracy --scenes {scenes}`.

One small model with one seed was measured on pictures it was trained for: what is asked about is drawn on a textured background, and
the class token was trained to name it. Read the controls first.

## Methods, with position ids kept and renumbered
{table(("method", "keep ratio", "position ids", metric.replace("_", " "), *kinds), main)}

## HiRED: newline policy and int8, position ids kept
{table(("variant", *ratios), variants)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; holds bundles, pictures and answers")
    parser.add_argument("--scenes", type=int, default=150, help="held-out pictures")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements" / "accuracy.md")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "heldout" / "questions.jsonl").is_file():
        maker = ROOT / "tools" / "reference_vlm" / "scenes.py"
        call(str(maker), "--out", str(work / "heldout"), "--scenes", str(options.scenes))
    for precision in ("fp32", "int8"):
        if not (work / f"{precision}.bundle").is_dir():
            budgets = [part for budget in BUDGETS for part in ("--budget", budget)]
            edgeprune(
                "export",
                str(CHECKPOINT),
                *budgets,
                "--weights",
                precision,
                "--out",
                str(work / f"{precision}.bundle"),
            )
    text = page(work, options.scenes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
