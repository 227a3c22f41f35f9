"""From the record to rows with intervals, and from rows to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgeprune_runtime.statistics import Interval, paired_difference, paired_ratio
from tools.tower_cuts.measure import Record
from tools.tower_cuts.plans import CONTROLS, WHOLE

GOAL_TIMES, GOAL_POINTS = 1.5, 1.0
Row = dict[str, Any]


def rows_of(record: Record, fewer: Mapping[str, float], controls: Mapping[str, str]) -> list[Row]:
    """One row per plan of `fewer` (times fewer MACs). controls: the plan of random tokens at the same counts, where there is one."""
    shown = [one for one in record.values() if all(plan in one["plans"] for plan in fewer)]
    right = {plan: [float(one["plans"][plan]["class"] == one["label"]) for one in shown] for plan in fewer}
    rows = []
    for plan in sorted(fewer, key=lambda plan: (plan != WHOLE, fewer[plan])):
        said = [one["plans"][plan] for one in shown]
        row: Row = {"plan": plan, "macs": fewer[plan], "top1": 100 * float(np.mean(right[plan]))}
        if plan != WHOLE:
            timed = [one for one in said if "cpu_s" in one and "cpu_s" in one["beside"]]
            for clock in ("cpu_s", "wall_s"):
                ratio = paired_ratio([one["beside"][clock] for one in timed], [one[clock] for one in timed], seed=0)
                row[clock.replace("_s", "_ratio")] = _ends(ratio)
            row["timed"] = len(timed)
            row["difference"] = _ends(paired_difference(right[plan], right[WHOLE], seed=0), 100)
            row["same_class"] = 100 * float(np.mean([one["class"] == one["beside"]["class"] for one in said]))
            divergence = [one["kl"] for one in said]
            row["kl"] = _ends(paired_difference(divergence, [0.0] * len(divergence), seed=0))
        if plan in controls:
            row["over_random"] = _ends(paired_difference(right[plan], right[controls[plan]], seed=0), 100)
        rows.append(row)
    return rows


def use_of(record: Record) -> dict[str, float | None]:
    """What the machine did besides, mean over the photographs that times were taken on."""
    looks = [look for one in record.values() for look in one["busy"] if look["timed"]]
    return {
        name: float(np.mean(known)) if (known := [one[name] for one in looks if one[name] is not None]) else None
        for name in ("other_cores", "stolen_share", "cores")
    }


def table(rows: Sequence[Row]) -> str:
    titles = ("plan", "MACs", "CPU time", "wall time", "top-1", "difference", "same class", "KL", "over random")
    lines = [titles, tuple("---" for _ in titles)]
    for row in rows:
        whole = row["plan"] == WHOLE
        lines.append(
            (
                f"`{row['plan']}`",
                f"{row['macs']:.2f}x",
                "-" if whole else _times(row["cpu_ratio"]),
                "-" if whole else _times(row["wall_ratio"]),
                f"{row['top1']:.1f}",
                "-" if whole else _points(row["difference"]),
                "-" if whole else f"{row['same_class']:.1f}",
                "-" if whole else f"{row['kl'][1]:.3f} [{row['kl'][0]:.3f}, {row['kl'][2]:.3f}]",
                _points(row["over_random"]) if "over_random" in row else "-",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cost_table(rows: Sequence[Row]) -> str:
    """What is left of the saving when cuts have taken their own time."""
    lines = ["| plan | MACs | CPU time | time of the cuts themselves |", "| --- | --- | --- | --- |"]
    for row in rows:
        if row["plan"] != WHOLE:
            own = [100 * (1 / ratio - 1 / row["macs"]) for ratio in row["cpu_ratio"]]
            lines.append(
                f"| `{row['plan']}` | {row['macs']:.2f}x | {_times(row['cpu_ratio'])} | {own[1]:.1f} % [{own[2]:.1f}, {own[0]:.1f}] |"
            )
    return "\n".join(lines)


def page_of(found: Mapping[str, Mapping[str, Any]]) -> str:
    """found: by precision photographs, machine and rows; "large" has those of the tower of real proportions."""
    parts = []
    for precision, said in found.items():
        if precision == "large":
            parts.append(f"{LARGE_TITLE}\n{_busy(said['machine'])}\n\n{cost_table(said['rows'])}\n")
            continue
        rows, timed = said["rows"], next(row["timed"] for row in said["rows"] if "timed" in row)
        title = f"## {precision}, {said['photographs']} photographs, times on {timed} of them"
        parts.append(f"{title}\n{_busy(said['machine'])}\n\n{_verdict(rows)}\n\n{table(rows)}\n")
    return PAGE.format(version=onnxruntime.__version__, tables="\n".join(parts))


def _verdict(rows: Sequence[Row]) -> str:
    """Who came nearest to the goal from either side, and which methods beat dropping at random."""
    cut = [row for row in rows if row["plan"] != WHOLE]
    methods = [row for row in cut if _method(row) not in CONTROLS]
    near = [row for row in methods if row["difference"][1] >= -GOAL_POINTS]
    fast = [row for row in methods if row["cpu_ratio"][1] >= GOAL_TIMES]
    both = [row for row in near if row in fast]
    lines = [
        f"**Aim: {GOAL_TIMES:g}x measured at a loss of at most {GOAL_POINTS:.1f} point: {'' if both else 'missed.**'}"
    ]
    if both:
        best = max(both, key=lambda row: row["difference"][1])
        lines[0] += f"met by the mean of {_names(both)}.** The least loss among them: `{best['plan']}`, {_brief(best)}."
    if near:
        lines.append(
            f"Fastest within the point: {_brief_list(sorted(near, key=lambda row: -row['cpu_ratio'][1])[:3])}."
        )
    if fast:
        lines.append(
            f"Least loss at {GOAL_TIMES:g}x or more: {_brief_list(sorted(fast, key=lambda row: row['kl'][1])[:3])}, by KL."
        )
    lines.append(f"Nobody is faster at a lower KL than {_brief_list(_front(methods))}.")
    lines.append(f"Of the MACs that are saved arrive as time, median of a method's rows: {_arriving(cut)}.")
    controlled = [row for row in cut if "over_random" in row]
    above = {_method(row) for row in controlled if row["over_random"][0] > 0}
    below = [row for row in controlled if row["over_random"][2] < 0]
    never = {_method(row) for row in controlled} - above
    if above:
        lines.append(
            f"Better than random tokens at the same counts, beyond the interval, in at least one row: {_list(above)}."
        )
    if never:
        lines.append(f"In no row: {_list(never)}.")
    if below:
        lines.append(f"Worse than random: {_brief_list(below)}.")
    return "\n".join(f"- {line}" for line in lines)


def _front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other one beats in both time and KL, the fastest first."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (-row["cpu_ratio"][1], row["kl"][1])):
        if not found or row["kl"][1] < found[-1]["kl"][1]:
            found.append(row)
    return found


def _arriving(rows: Sequence[Row]) -> str:
    shares: dict[str, list[float]] = {}
    for row in rows:
        shares.setdefault(_method(row), []).append((1 - 1 / row["cpu_ratio"][1]) / (1 - 1 / row["macs"]))
    found = sorted(((float(np.median(many)), name) for name, many in shares.items()), reverse=True)
    return ", ".join(f"{name} {100 * share:.0f} %" for share, name in found)


def _busy(machine: Mapping[str, float | None]) -> str:
    other, stolen, cores = (machine[name] for name in ("other_cores", "stolen_share", "cores"))
    if other is None or stolen is None or cores is None:
        return "How busy the machine was is not known."
    return (
        f"Meanwhile other programs kept {other:.2f} of {cores:.0f} cores busy and the host took {100 * stolen:.1f} % of the processors' time. "
        "Runs of a pair took turns, so ratios suffer less than times."
    )


def _method(row: Row) -> str:
    return str(row["plan"]).partition("@")[0]


def _names(rows: Sequence[Row]) -> str:
    return _list(f"`{row['plan']}`" for row in rows)


def _brief(row: Row) -> str:
    return f"{row['cpu_ratio'][1]:.2f}x at {_points(row['difference'])} points (KL {row['kl'][1]:.3f})"


def _brief_list(rows: Sequence[Row]) -> str:
    return "; ".join(f"`{row['plan']}` {_brief(row)}" for row in rows)


def _list(names: Any) -> str:
    return ", ".join(sorted(names))


def _times(ends: Sequence[float]) -> str:
    return f"{ends[1]:.2f}x [{ends[0]:.2f}, {ends[2]:.2f}]"


def _points(ends: Sequence[float]) -> str:
    return f"{ends[1]:+.1f} [{ends[0]:+.1f}, {ends[2]:+.1f}]"


def _ends(interval: Interval, factor: float = 1.0) -> list[float]:
    return [round(factor * end, 5) for end in (interval.low, interval.point, interval.high)]


LARGE_TITLE = """## What a cut costs in a tower of real proportions
ViT-B/16 at 384 pixels (577 rows of 768 channels, random weights), fp32: times only. The last column is what cuts themselves take, in per
cent of the whole model's time, if all else took the time of its MACs; below zero, fewer rows are faster than that."""

PAGE = """# Cuts in the tower of a classifier
What each method loses and saves between the blocks of a real ViT-Ti/16 (5.7 M parameters, ImageNet-1k) on validation photographs that
nothing was chosen on, counts and temperatures included. Nothing is trained. Made by `make tower-cuts-table`, which runs

    python tools/tower_cuts_table.py --model vit_tiny_patch16_224.safetensors --photographs val.zip --labels labels.csv \\
        --work build/cuts --page docs/measurements/tower-cuts.md

ONNX Runtime {version} as it opens a graph by default, batch 1, one thread. Every photograph runs through the whole classifier and all plans
in an order drawn anew, each twice: the second run is timed, when its weights are warm. The numbers are beside this page, in
[tower-cuts.json](tower-cuts.json). Weights and photographs are not part of this repository.

| column | means |
| --- | --- |
| MACs | times fewer multiply-accumulates, without what cuts compute themselves |
| CPU time, wall time | median ratio of one run, whole to cut, paired by photograph, with its 95 % interval; higher is better |
| difference | top-1 against the whole classifier of the same precision, paired, in points, with its 95 % interval |
| same class | how often both say the same, in per cent |
| KL | divergence from the whole classifier's probabilities in nats, mean with its 95 % interval; tells plans apart where top-1 cannot |
| over random | top-1 against random tokens leaving at the same blocks in the same numbers, paired, in points |

- With so few photographs a difference of top-1 has an interval of two points and more either way: read KL beside it.
- A cut costs time of its own in a model this small, most where all rows are compared with each other: times stay behind MACs. In a tower of
  [real proportions](#what-a-cut-costs-in-a-tower-of-real-proportions) they hardly do.
- Counts are the same for all methods and were found for `absorb` on other photographs; each of the others might do better with its own.
- int8 is compared with int8; what quantisation itself costs is the difference between the first rows of both tables.

{tables}"""
