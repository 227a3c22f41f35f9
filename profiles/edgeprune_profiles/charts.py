"""Geometry of the plots, in the units of a drawing 360 wide: a phone shows it 1:1, a desktop somewhat larger.

Text never meets marks by construction: a bar has its label on a line of its own, and legends stand outside the drawing.
Colours are class names (`c0`, `c1`, ...) that the style sheet gives a value for light and for dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune_profiles import units
from edgeprune_profiles.record import DECODE, Accuracy
from edgeprune_profiles.summary import BudgetSummary, Summary

WIDTH = 360.0
ROW = 40.0
LABEL = 34  # characters that fit beside the value
BAR = 16.0
PARTS = {"preprocess": "c0", "tower": "c1", "select": "c2", "prefill": "c3", DECODE: "c5"}
PARTS |= {"weights": "c4", "KV cache": "c2", "rest": "c0"}
OTHER = "c4"
LINES = ("c1", "c3", "c2", "c4", "c5", "c0")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")


@dataclass(frozen=True, slots=True)
class Segment:
    colour: str
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: `label` at the left and `value` at the right of a line above the segments, whose top is `y`."""

    label: str
    value: str
    y: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend."""

    colour: str
    name: str
    shape: str = "square"


@dataclass(frozen=True, slots=True)
class BarChart:
    height: float
    bars: tuple[Bar, ...]
    legend: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float
    low: float | None  # ends of the whisker, top first in the drawing's sense: low is the larger y
    high: float | None
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    colour: str
    shape: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    height: float
    left: float
    right: float
    bottom: float
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    full_y: float | None  # height of the score at full budget
    legend: tuple[Key, ...]


Part = tuple[str, float, str]
"""Name of the series, value, value as text."""


def label(budget: BudgetSummary) -> str:
    text = f"{budget.name}, {'nothing dropped' if budget.full else budget.result.budget.method}"
    return text if len(text) <= LABEL else f"{text[: LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def first_token(summary: Summary) -> BarChart:
    """Time to first token by stage (medians)."""
    stages = [stage for stage in summary.stages if stage != DECODE]
    rows = [
        (label(b), units.seconds(b.ttft_s.p50 if b.ttft_s else None),
         [(s, b.stages[s].wall_s, units.seconds(b.stages[s].wall_s)) for s in stages if s in b.stages])
        for b in summary.budgets
    ]  # fmt: skip
    return _bars(rows, stages)


def further_tokens(summary: Summary) -> BarChart:
    """Time per token after the first (median)."""
    rows: list[tuple[str, str, list[Part]]] = []
    for b in summary.budgets:
        p50 = b.tpot_s.p50 if b.tpot_s else None
        parts = [] if p50 is None else [("decode", p50, units.seconds(p50))]
        rows.append((label(b), units.seconds(p50), parts))
    return _bars(rows, ["decode"], legend=False)


def memory(summary: Summary) -> BarChart:
    """Peak resident memory by part. Weights that are mapped but not resident can exceed it: then it is not divided."""
    rows: list[tuple[str, str, list[Part]]] = []
    for b in summary.budgets:
        peak = b.result.memory.peak_bytes if b.result.memory else None
        known = [("weights", b.result.budget.weights_bytes), ("KV cache", b.result.budget.cache_bytes)]
        parts = [(name, value) for name, value in known if value is not None]
        rest = None if peak is None else peak - sum(value for _, value in parts)
        if rest is not None and rest < 0:
            parts = [("rest", peak or 0)]
        elif rest is not None:
            parts.append(("rest", rest))
        rows.append((label(b), units.size(peak), [(name, float(v), units.size(v)) for name, v in parts]))
    return _bars(rows, ["weights", "KV cache", "rest"])


def accuracy(section: Accuracy) -> LineChart:
    """Score against keep ratio, a line per method, the score at full budget as a rule across."""
    metric = section.headline
    pruned = [row for row in section.rows if row.keep_ratio != 1.0]
    full = next((row.scores[metric] for row in section.rows if row.keep_ratio == 1.0), None)
    ratios = sorted({row.keep_ratio for row in pruned})
    methods = list(dict.fromkeys(row.method for row in pruned))
    height, left, right, top, bottom = 250.0, 48.0, WIDTH - 6, 12.0, 210.0
    span = [row.scores[metric] for row in pruned] + ([] if full is None else [full])
    for row in pruned:
        if full is not None and (d := row.differences.get(metric)):
            span += [full + d.low, full + d.high]
    ticks = _ticks(max(0.0, min(span)), min(1.0, max(span)))

    def y_of(score: float) -> float:
        share = (min(max(score, ticks[0]), ticks[-1]) - ticks[0]) / (ticks[-1] - ticks[0])
        return round(bottom - share * (bottom - top), 2)

    step = (right - left) / max(1, len(ratios))
    centre = {ratio: left + step * (i + 0.5) for i, ratio in enumerate(ratios)}
    lines = []
    for i, method in enumerate(methods):
        dodge = (i - (len(methods) - 1) / 2) * min(9.0, step * 0.6 / len(methods))
        points = []
        for row in sorted((row for row in pruned if row.method == method), key=lambda row: row.keep_ratio):
            d = row.differences.get(metric)
            low = None if full is None or d is None else y_of(full + d.low)
            high = None if full is None or d is None else y_of(full + d.high)
            title = f"{method} at {row.keep_ratio:g}: {units.percent(row.scores[metric])}"
            points.append(Point(round(centre[row.keep_ratio] + dodge, 2), y_of(row.scores[metric]), low, high, title))
        lines.append(Line(LINES[i % len(LINES)], SHAPES[i % len(SHAPES)], tuple(points)))
    return LineChart(
        height, left, right, bottom, tuple(lines),
        x_ticks=tuple((round(centre[ratio], 2), f"{ratio:g}") for ratio in ratios),
        y_ticks=tuple((y_of(tick), units.percent(tick, 0)) for tick in ticks),
        full_y=None if full is None else y_of(full),
        legend=(
            *(Key(line.colour, method, line.shape) for line, method in zip(lines, methods, strict=True)),
            *(() if full is None else (Key("", "full budget", "rule"),)),
        ),
    )  # fmt: skip


def _bars(rows: Sequence[tuple[str, str, list[Part]]], series: Sequence[str], *, legend: bool = True) -> BarChart:
    longest = max((sum(value for _, value, _ in parts) for _, _, parts in rows), default=0.0)
    scale = WIDTH / longest if longest > 0 else 0.0
    bars = []
    for i, (name, text, parts) in enumerate(rows):
        x = 0.0
        segments = []
        for part, value, shown in parts:
            segments.append(Segment(PARTS.get(part, OTHER), round(x, 2), round(value * scale, 2), f"{part}: {shown}"))
            x += value * scale
        bars.append(Bar(name, text, i * ROW + 18, tuple(segments)))
    keys = tuple(Key(PARTS.get(name, OTHER), name) for name in series) if legend else ()
    return BarChart(len(rows) * ROW, tuple(bars), keys)


def _ticks(low: float, high: float) -> list[float]:
    """From 3 to 7 round shares that hold both ends."""
    for step in (1, 2, 5, 10, 20):
        first, last = int(low * 100 // step), -int(-high * 100 // step)
        if last - first <= 6:
            break
    last = max(last, first + 2)
    return [tick * step / 100 for tick in range(first, last + 1)]
