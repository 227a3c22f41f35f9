"""Geometry of the bar plots, in the units of a drawing 360 wide: a phone shows it 1:1, a desktop somewhat larger.

Text never meets marks by construction: a bar has its label on a line of its own, and legends stand outside the drawing.
Colours are class names (`c0`, `c1`, ...) that the style sheet gives a value for light and for dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune_profiles.record.power_profile import DECODE, IMAGE, PREFILL, REQUEST, SELECT
from edgeprune_profiles.report import units
from edgeprune_profiles.report.summary import BudgetSummary, Summary

WIDTH = 360.0
ROW = 40.0
LABEL_PX, VALUE_PX = 7.2, 8.2  # a wide character of each, so that a label ends before its value begins
BAR = 16.0
LIMIT_REACH = 4.0  # a limit further off than so many bars would squeeze them
PARTS = {"preprocess": "c0", "tower": "c1", SELECT: "c2", PREFILL: "c3", DECODE: "c5"}
ENCODE = "preprocess + tower"
PARTS |= {ENCODE: "c1", REQUEST: "c1"}
PARTS |= {"weights": "c4", "KV cache": "c2", "rest": "c0"}
OTHER = "c4"


@dataclass(frozen=True, slots=True)
class BarSegment:
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
    segments: tuple[BarSegment, ...]


@dataclass(frozen=True, slots=True)
class LegendKey:
    """One entry of a legend."""

    colour: str
    name: str
    shape: str = "square"


@dataclass(frozen=True, slots=True)
class BarChart:
    """`limit_x`: where a rule across all bars stands."""

    height: float
    bars: tuple[Bar, ...]
    legend: tuple[LegendKey, ...]
    limit_x: float | None = None


BarPart = tuple[str, float, str]
"""Name of the series, value, value as text."""


def label(budget: BudgetSummary) -> str:
    """As in the terminal, "hired@0.2"; a budget that keeps every token says so."""
    if budget.result.budget.keep_ratio < 1.0:
        return budget.with_method
    return f"{budget.name}, {'nothing dropped' if budget.full else 'all tokens'}"


def first_token(summary: Summary, limit_s: float | None = None) -> BarChart:
    """Time to first token by stage (medians), with a rule at what was asked for."""
    stages = [stage for stage in summary.stages if stage != DECODE]
    rows = [
        (label(b), units.seconds(b.ttft_s.p50 if b.ttft_s else None),
         [(s, b.stages[s].wall_s, units.seconds(b.stages[s].wall_s)) for s in stages if s in b.stages])
        for b in summary.budgets
    ]  # fmt: skip
    return _bars(rows, stages, limit=limit_s, limit_text=units.seconds(limit_s))


def further_tokens(summary: Summary) -> BarChart:
    """Time per token after the first (median)."""
    rows: list[tuple[str, str, list[BarPart]]] = []
    for b in summary.budgets:
        p50 = b.tpot_s.p50 if b.tpot_s else None
        parts = [] if p50 is None else [("decode", p50, units.seconds(p50))]
        rows.append((label(b), units.seconds(p50), parts))
    return _bars(rows, ["decode"], legend=False)


def memory(summary: Summary, limit_bytes: int | None) -> BarChart:
    """Peak resident memory by part, with a rule at the limit where that is near enough to be drawn to the same scale.

    Weights that are mapped but not resident can exceed the peak: then it is not divided.
    """
    rows: list[tuple[str, str, list[BarPart]]] = []
    for b in summary.budgets:
        peak = b.result.memory.peak_bytes if b.result.memory else None
        known = [("weights", b.result.budget.weights_bytes), ("KV cache", b.result.budget.cache_bytes)]
        parts = [(name, value) for name, value in known if value is not None]
        rest = None if peak is None else peak - sum(value for _, value in parts)
        if rest is not None and rest < 0:
            parts = [("rest", peak or 0)]
        elif rest is not None:
            parts.append(("rest", rest))
        over = ", over the limit" if peak is not None and limit_bytes is not None and peak > limit_bytes else ""
        rows.append((label(b), units.size(peak) + over, [(name, float(v), units.size(v)) for name, v in parts]))
    return _bars(rows, ["weights", "KV cache", "rest"], limit=limit_bytes, limit_text=units.limit_size(limit_bytes))


def energy(summary: Summary, limit_j: float | None = None) -> BarChart | None:
    """Joules of an answer, by the pieces that were repeated alone, with a rule at what was asked for; None when no budget has any."""
    if all(b.answer_j is None for b in summary.budgets):
        return None
    rows = []
    for b in summary.budgets:
        request = b.power.get(REQUEST)
        text = units.give_or_take(b.answer_j, request.error_j if request else None)
        text = units.marked(text, b.answer_doubtful)
        rows.append((label(b), text, _energy_parts(b, summary.report.max_tokens)))
    series = [
        name
        for name in (ENCODE, SELECT, PREFILL, DECODE, REQUEST)
        if any(name in dict(p[:2] for p in r[2]) for r in rows)
    ]
    return _bars(rows, series, legend=series != [REQUEST], limit=limit_j, limit_text=units.energy(limit_j))


def _energy_parts(b: BudgetSummary, tokens: int) -> list[BarPart]:
    """Encoding is what a picture takes without its selection. Undivided where a piece is unknown."""
    image, select, prefill, decode = (
        found.gross_j if (found := b.power.get(piece)) else None for piece in (IMAGE, SELECT, PREFILL, DECODE)
    )
    if image is None or select is None or prefill is None or (decode is None and tokens > 1):
        return [] if b.answer_j is None else [(REQUEST, b.answer_j, units.energy(b.answer_j))]
    parts = [(ENCODE, max(0.0, image - select)), (SELECT, select), (PREFILL, prefill)]
    parts += [] if decode is None else [(DECODE, decode * (tokens - 1))]
    return [(name, value, units.energy(value)) for name, value in parts]


def _bars(
    rows: Sequence[tuple[str, str, list[BarPart]]],
    series: Sequence[str],
    *,
    legend: bool = True,
    limit: float | None = None,
    limit_text: str = "",
) -> BarChart:
    longest = max((sum(value for _, value, _ in parts) for _, _, parts in rows), default=0.0)
    drawn = limit if limit is not None and limit <= LIMIT_REACH * longest else None
    scale = WIDTH / max(longest, drawn or 0.0) if longest > 0 else 0.0
    bars = []
    for i, (name, text, parts) in enumerate(rows):
        x = 0.0
        segments = []
        for part, value, shown in parts:
            segments.append(
                BarSegment(PARTS.get(part, OTHER), round(x, 2), round(value * scale, 2), f"{part}: {shown}")
            )
            x += value * scale
        bars.append(Bar(_cut(name, text), text, i * ROW + 18, tuple(segments)))
    keys = tuple(LegendKey(PARTS.get(name, OTHER), name) for name in series) if legend else ()
    if drawn is not None:
        keys += (LegendKey("", f"limit {limit_text}", "rule"),)
    elif limit is not None and longest > 0:
        keys += (LegendKey("", f"limit {limit_text}, {limit / longest:.0f} times the longest bar", "beyond"),)
    return BarChart(len(rows) * ROW, tuple(bars), keys, None if drawn is None else round(drawn * scale, 2))


def _cut(name: str, value: str) -> str:
    """The label, as long as the value leaves room for: a method is cut, its budget stays."""
    room = int((WIDTH - VALUE_PX * len(value)) / LABEL_PX) - 1
    if len(name) <= room:
        return name
    method, at, budget = name.rpartition("@")
    end = f"\N{HORIZONTAL ELLIPSIS}{at}{budget}" if at else "\N{HORIZONTAL ELLIPSIS}"
    return f"{(method if at else name)[: max(room - len(end), 1)]}{end}"
