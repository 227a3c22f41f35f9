"""Answers of both reference models in each precision, paired by question."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgeprune.evaluate.metrics import exact_match
from edgeprune_runtime.statistics import paired_difference
from tools.accuracy_table import CHECKPOINT, ROOT, edgeprune, table

SECOND = ROOT / "tools" / "reference_smolvlm" / "checkpoint"
PRECISIONS = ("fp32", "int8", "int4")
BUDGETS = ("1.0", "0.2")


def answered(work: Path, checkpoint: Path, name: str, precision: str) -> dict[str, list[bool]]:
    """Whether each question was answered exactly, by selection."""
    bundle, log = work / f"{name}-{precision}.bundle", work / f"{name}-{precision}.jsonl"
    export(checkpoint, precision, bundle)
    data = work / "heldout" / "questions.jsonl"
    words = ["eval", str(bundle), "--data", str(data), "--answers", str(log), "--max-tokens", "8", "--threads", "1"]
    edgeprune(*words, "--out", str(log.with_suffix(".json")), "--force")
    questions = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[bool]] = {}
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[1:]]
    for one in sorted(lines, key=lambda one: one["number"]):
        right = exact_match(one["answer"], questions[one["number"]]["answers"]) == 1.0
        found.setdefault(one["selection"], []).append(right)
    return found


def answers_table(work: Path) -> str:
    pictures = [json.loads(line)["image"] for line in (work / "heldout" / "questions.jsonl").read_text().splitlines()]
    rows = []
    for name, checkpoint in (("first", CHECKPOINT), ("second", SECOND)):
        found = {precision: answered(work, checkpoint, name, precision) for precision in PRECISIONS}
        for precision in PRECISIONS:
            megabytes = (work / f"{name}-{precision}.bundle" / "weights.bin").stat().st_size / 1e6
            method = next(selection.partition("@")[0] for selection in found[precision] if "@" in selection)
            cells = [name, method, precision, f"{megabytes:.1f}"]
            for selection, right in found[precision].items():
                score = f"{100 * np.mean(right):.1f}"
                if precision != "fp32":
                    apart = paired_difference(right, found["fp32"][selection], seed=0, clusters=pictures)
                    score += f" ({100 * apart.point:+.1f} [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}])"
                cells.append(score)
            rows.append(tuple(cells))
    return table(("reference model", "method", "weights", "MB", *BUDGETS), rows)


def export(checkpoint: Path, precision: str, out: Path) -> None:
    if not out.is_dir():
        budgets = [part for budget in BUDGETS for part in ("--budget", budget)]
        edgeprune("export", str(checkpoint), *budgets, "--no-controls", "--weights", precision, "--out", str(out))
