"""Geometry of the plots with lines: accuracy against budget, and a soak over time. As in `charts.py`, 360 wide.

Rates, watts and clocks begin at 0, so that a small fall looks small; degrees do not, since their 0 means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeprune_profiles.record.profile import Accuracy, AccuracyRow
from edgeprune_profiles.record.sustain import Slice, SoakSummary
from edgeprune_profiles.report import units
from edgeprune_profiles.report.chart_bars import WIDTH, LegendKey
from edgeprune_profiles.report.summary import full_score, is_whole
from edgeprune_runtime.budgets import asked_for, on_tiles, staying

COLOURS = ("c1", "c3", "c2", "c4", "c5", "c0")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float
    low: float | None  # ends of the whisker, top first in the drawing's sense: low is the larger y
    high: float | None
    title: str


@dataclass(frozen=True, slots=True)
class ChartLine:
    """`shape` of the marker at each point; "" for none."""

    colour: str
    shape: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class LineChart:
    height: float
    left: float
    right: float
    bottom: float
    lines: tuple[ChartLine, ...]
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    legend: tuple[LegendKey, ...]
    full_y: float | None = None  # height of the score at full budget


def accuracy(section: Accuracy) -> LineChart:
    """Score against keep ratio, a line per method and number of tiles, the score at full budget as a rule across."""
    metric = section.headline
    pruned = [row for row in section.rows if not is_whole(row)]
    full = full_score(section)
    ratios = sorted({row.keep_ratio for row in pruned})
    methods = list(dict.fromkeys(_series(row) for row in pruned))
    height, left, right, top, bottom = 250.0, 48.0, WIDTH - 6, 12.0, 210.0
    span = [row.scores[metric] for row in pruned] + ([] if full is None else [full])
    for row in pruned:
        if full is not None and (d := row.differences.get(metric)):
            span += [full + d.low, full + d.high]
    ticks = _share_ticks(max(0.0, min(span)), min(1.0, max(span)))

    def y_of(score: float) -> float:
        share = (min(max(score, ticks[0]), ticks[-1]) - ticks[0]) / (ticks[-1] - ticks[0])
        return round(bottom - share * (bottom - top), 2)

    step = (right - left) / max(1, len(ratios))
    centre = {ratio: left + step * (i + 0.5) for i, ratio in enumerate(ratios)}
    lines = []
    for i, method in enumerate(methods):
        dodge = (i - (len(methods) - 1) / 2) * min(9.0, step * 0.6 / len(methods))
        points = []
        for row in sorted((row for row in pruned if _series(row) == method), key=lambda row: row.keep_ratio):
            d = row.differences.get(metric)
            low = None if full is None or d is None else y_of(full + d.low)
            high = None if full is None or d is None else y_of(full + d.high)
            title = f"{method} at {row.keep_ratio:g}: {units.percent(row.scores[metric])}"
            points.append(Point(round(centre[row.keep_ratio] + dodge, 2), y_of(row.scores[metric]), low, high, title))
        lines.append(ChartLine(*style(i), tuple(points)))
    return LineChart(
        height, left, right, bottom, tuple(lines),
        x_label="keep ratio",
        x_ticks=tuple((round(centre[ratio], 2), f"{ratio:g}") for ratio in ratios),
        y_ticks=tuple((y_of(tick), units.percent(tick, 0)) for tick in ticks),
        full_y=None if full is None else y_of(full),
        legend=(
            *(LegendKey(line.colour, method, line.shape) for line, method in zip(lines, methods, strict=True)),
            *(() if full is None else (LegendKey("", "full budget", "rule"),)),
        ),
    )  # fmt: skip


def _series(row: AccuracyRow) -> str:
    asked = asked_for(row.name)
    return on_tiles(staying(row.method, asked.inside), asked.tiles)


def style(number: int) -> tuple[str, str]:
    """Colour and shape of a series; 36 of them before a pair comes again."""
    return COLOURS[number % len(COLOURS)], SHAPES[(number + number // len(COLOURS)) % len(SHAPES)]


def _share_ticks(low: float, high: float) -> list[float]:
    """From 3 to 7 round shares that hold both ends."""
    for step in (1, 2, 5, 10, 20):
        first, last = int(low * 100 // step), -int(-high * 100 // step)
        if last - first <= 6:
            break
    last = max(last, first + 2)
    return [tick * step / 100 for tick in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity of a soak over time."""

    title: str
    chart: LineChart


def soak_panels(soak: SoakSummary) -> tuple[Panel, ...]:
    """What was recorded, and only that: rate, power, temperature, clocks."""
    rates = {"requests": [(piece, piece.requests_per_s) for piece in soak.series]}
    watts = {"power": [(piece, w) for piece in soak.series if (w := piece.stretch.power_w) is not None]}
    degrees, clocks = (_by_name(soak.series, read) for read in (_hottest, _clocks))
    found = (
        ("Requests per second", rates, 0.0, units.rate),
        ("Power, W", watts, 0.0, units.rate),
        ("Hottest, °C", degrees, None, units.rate),
        ("Clocks, GHz", clocks, 0.0, units.rate),
    )
    return tuple(
        Panel(title, _over_time(soak, series, low, text)) for title, series, low, text in found if any(series.values())
    )


Series = Mapping[str, Sequence[tuple[Slice, float]]]


def _hottest(piece: Slice) -> Mapping[str, float]:
    return piece.stretch.board.hottest_c if piece.stretch.board else {}


def _clocks(piece: Slice) -> Mapping[str, float]:
    return {name: hertz / 1e9 for name, hertz in piece.stretch.board.mean_hz.items()} if piece.stretch.board else {}


def _by_name(pieces: Sequence[Slice], read: Callable[[Slice], Mapping[str, float]]) -> Series:
    """The names that reach highest, at most as many as lines can be told apart by colour."""
    found: dict[str, list[tuple[Slice, float]]] = {}
    for piece in pieces:
        for name, value in read(piece).items():
            found.setdefault(name, []).append((piece, value))
    highest = sorted(found, key=lambda name: -max(value for _, value in found[name]))
    return {name: found[name] for name in highest[: len(COLOURS)]}


def _over_time(soak: SoakSummary, series: Series, low: float | None, text: Callable[[float], str]) -> LineChart:
    height, left, right, top, bottom = 150.0, 48.0, WIDTH - 12, 10.0, 112.0
    values = [value for points in series.values() for _, value in points]
    ticks = round_ticks(min(values) if low is None else low, max(values))
    begin_s = soak.first.stretch.start_s

    def x_of(seconds: float) -> float:
        return round(left + (right - left) * seconds / soak.duration_s, 2)

    def y_of(value: float) -> float:
        return round(bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)

    lines = []
    for number, points in enumerate(series.values()):
        found = []
        for piece, value in points:
            at_s = (piece.stretch.start_s + piece.stretch.end_s) / 2 - begin_s
            found.append(Point(x_of(at_s), y_of(value), None, None, text(value)))
        lines.append(ChartLine(COLOURS[number], "" if len(found) > 1 else "circle", tuple(found)))
    step_s = next((s for s in (30, 60, 120, 300, 600, 900, 1800) if soak.duration_s / s <= 6), 3600)
    times = [number * step_s for number in range(int(soak.duration_s // step_s) + 1)]
    return LineChart(
        height, left, right, bottom, tuple(lines),
        x_label="minutes",
        x_ticks=tuple((x_of(t), f"{t / 60:g}") for t in times),
        y_ticks=tuple((y_of(tick), f"{tick:g}") for tick in ticks),
        legend=tuple(LegendKey(line.colour, name) for line, name in zip(lines, series, strict=True)) if len(lines) > 1 else (),
    )  # fmt: skip


def round_ticks(low: float, high: float) -> list[float]:
    """From 2 to 5 round numbers that hold both ends."""
    span = max(high - low, abs(high) * 1e-3, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
