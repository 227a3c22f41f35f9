"""Geometry of the plot that decides: time to first token against accuracy, one point per budget, method and number of tiles.

Points carry what they vary by; the front joins those that no other point beats in both; limits that were asked for are labelled lines.
Labels are placed where they meet neither points nor each other, the taken budget's first; one without room is left to its title.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeprune_profiles.record.profile import Accuracy
from edgeprune_profiles.report import units
from edgeprune_profiles.report.chart_bars import WIDTH, LegendKey
from edgeprune_profiles.report.chart_lines import round_ticks, style
from edgeprune_profiles.report.choice import BudgetChoice, WeighedBudget
from edgeprune_profiles.report.summary import full_score
from edgeprune_runtime.budgets import asked_for, on_tiles, staying
from edgeprune_runtime.statistics import Interval

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 300.0, 48.0, WIDTH - 8, 14.0, 256.0
FULL = "full"
LABEL_PX, LINE_PX = 7.0, 14.0
NEAR = 1.6  # a limit further off than so many spans of the points would squeeze them


@dataclass(frozen=True, slots=True)
class PlotLabel:
    """`anchor` as in SVG: start, middle or end."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A budget; `taken`: the chosen one, or where none is sure the one that may.

    sides, ends  of its whisker across, and of the one up and down; None without an interval
    """

    x: float
    y: float
    sides: tuple[float, float] | None
    ends: tuple[float, float] | None
    colour: str
    shape: str
    label: PlotLabel | None
    title: str
    taken: bool


@dataclass(frozen=True, slots=True)
class PlotLimit:
    """A line from end to end of the drawing, and what it stands for."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: PlotLabel


@dataclass(frozen=True, slots=True)
class FrontChart:
    height: float
    left: float
    right: float
    top: float
    bottom: float
    points: tuple[FrontPoint, ...]
    front: tuple[tuple[float, float], ...]
    limits: tuple[PlotLimit, ...]
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    legend: tuple[LegendKey, ...]
    beyond: tuple[str, ...]  # limits that lie outside the drawing


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def front(choice: BudgetChoice, accuracy: Accuracy | None) -> FrontChart | None:
    """None where no budget has both a time and an accuracy."""
    known = [one for one in choice.budgets if one.ttft_s is not None and one.score is not None]
    if not known or accuracy is None:
        return None
    full, ttft = full_score(accuracy), choice.needs.ttft_s
    least = choice.needs.least_points(full)
    floor = None if full is None or least is None else full + least
    times = [t for one in known if one.ttft_s for t in (one.ttft_s.low, one.ttft_s.high)]
    scores = [s for one in known for s in _score(one, full)]
    x_ticks = round_ticks(*_reach(times, ttft))
    y_ticks = round_ticks(max(0.0, min(_reach(scores, floor))), min(1.0, max(_reach(scores, floor))))

    def x_of(seconds: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (seconds - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), 2)

    def y_of(score: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (min(score, 1.0) - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 2)

    methods = dict.fromkeys(row.method for row in accuracy.rows)  # colours are those of the plot of accuracy
    styles = {name: style(i) for i, name in enumerate(sorted(methods, key=lambda name: name == FULL))}
    places = {one.name: (x_of(_at(one.ttft_s)), y_of(one.score or 0.0)) for one in known}
    marks = [_Box(x - 5, y - 5, x + 5, y + 5) for x, y in places.values()]
    drawn = {one.summary.result.budget.method for one in known}
    chosen = choice.taken or choice.nearest
    limits: list[PlotLimit] = []
    beyond = []
    if ttft is not None:
        text = f"at most {units.seconds(ttft)}"
        if x_ticks[0] <= ttft <= x_ticks[-1]:
            x = x_of(ttft)
            spots = [(x + dx, y, side) for y in (BOTTOM - 6, TOP + 12) for dx, side in ((5, "start"), (-5, "end"))]
            limits.append(PlotLimit(x, TOP, x, BOTTOM, _free(text, spots, marks)))
        else:
            beyond.append(f"time: {text}, {'right' if ttft > x_ticks[-1] else 'left'} of the drawing")
    if floor is not None:
        score = choice.needs.score
        text = f"{units.points(least or 0.0)} points" if score is None else f"at least {units.percent(score, 0)}"
        if y_ticks[0] <= floor <= y_ticks[-1]:
            y = y_of(floor)
            spots = [(x, y + dy, side) for dy in (-5, 15) for x, side in ((RIGHT - 4, "end"), (LEFT + 5, "start"))]
            limits.append(PlotLimit(LEFT, y, RIGHT, y, _free(text, spots, marks)))
        else:
            beyond.append(f"accuracy: {text}, {'above' if floor > y_ticks[-1] else 'below'} the drawing")
    labels = _labels([(one, *places[one.name]) for one in known], chosen, [limit.label for limit in limits])
    unit, factor = ("ms", 1e3) if x_ticks[-1] < 1 else ("s", 1.0)
    return FrontChart(
        HEIGHT, LEFT, RIGHT, TOP, BOTTOM,
        points=tuple(
            FrontPoint(
                *places[one.name],
                sides=None if one.ttft_s is None else (x_of(one.ttft_s.low), x_of(one.ttft_s.high)),
                ends=None if full is None or one.points is None or one.summary.full else tuple(map(y_of, _score(one, full)[1:])),  # type: ignore[arg-type]
                colour=styles[one.summary.result.budget.method][0],
                shape=styles[one.summary.result.budget.method][1],
                label=labels.get(one.name),
                title=f"{one.name}: {units.seconds(_at(one.ttft_s))}, {units.percent(one.score)}",
                taken=one is chosen,
            )
            for one in known
        ),
        front=tuple(sorted(places[one.name] for one in known if one.front)),
        limits=tuple(limits),
        x_label=f"median time to first token, {unit}",
        x_ticks=tuple((x_of(t), f"{t * factor:g}") for t in x_ticks),
        y_ticks=tuple((y_of(t), f"{t * 100:g}{units.NBSP}%") for t in y_ticks),
        legend=_legend({name: styles[name] for name in methods if name in drawn}, choice, limits),
        beyond=tuple(beyond),
    )  # fmt: skip


def _legend(
    styles: dict[str, tuple[str, str]], choice: BudgetChoice, limits: Sequence[PlotLimit]
) -> tuple[LegendKey, ...]:
    named = {FULL: "all tokens"}
    return (
        *(LegendKey(colour, named.get(name, name), shape) for name, (colour, shape) in styles.items()),
        LegendKey("", "front", "front"),
        *(
            [LegendKey("", "taken" if choice.taken else "may meet it", "taken")]
            if choice.taken or choice.nearest
            else []
        ),
        *([LegendKey("", "asked for", "rule")] if limits else []),
    )


def _score(one: WeighedBudget, full: float | None) -> tuple[float, ...]:
    """The score, and the ends of its interval where it has one."""
    score = one.score or 0.0
    if full is None or one.points is None or one.summary.full:
        return (score,)
    return score, full + one.points.low, min(1.0, full + one.points.high)


def _at(found: Interval | None) -> float:
    return 0.0 if found is None else found.point


def _reach(values: Sequence[float], limit: float | None) -> tuple[float, float]:
    """What the axis must hold: all values, and the limit if it is near enough."""
    low, high = min(values), max(values)
    span = max(high - low, 0.02 * high, 1e-9)
    if limit is not None and low - NEAR * span <= limit <= high + NEAR * span:
        low, high = min(low, limit), max(high, limit)
    return low, high


def _free(text: str, spots: Sequence[tuple[float, float, str]], marks: Sequence[_Box]) -> PlotLabel:
    """The first spot that lies inside and meets no point; else the first."""
    labels = [PlotLabel(x, y, side, text) for x, y, side in spots]

    def is_free(box: _Box) -> bool:
        return box.left >= LEFT and box.right <= RIGHT and not any(box.meets(mark) for mark in marks)

    return next((label for label in labels if is_free(_box(label))), labels[0])


def _labels(
    placed: Sequence[tuple[WeighedBudget, float, float]], taken: WeighedBudget | None, others: Sequence[PlotLabel]
) -> dict[str, PlotLabel]:
    """Labels by budget: right, left, above or below its point, wherever nothing is met; where nothing is free, none."""
    marks = [_Box(x - 5, y - 5, x + 5, y + 5) for _, x, y in placed]
    taken_up = [*marks, *(_box(label) for label in others)]
    found: dict[str, PlotLabel] = {}
    for one, x, y in sorted(placed, key=lambda each: (each[0] is not taken, not each[0].front)):
        asked = asked_for(one.name)
        for label in _around(x, y, on_tiles(staying(asked.budget, asked.inside), asked.tiles)):
            box = _box(label)
            inside = box.left >= LEFT and box.right <= RIGHT + 4 and box.top >= 0 and box.bottom <= BOTTOM
            if inside and not any(box.meets(other) for other in taken_up):
                found[one.name] = label
                taken_up.append(box)
                break
    return found


def _around(x: float, y: float, text: str) -> Iterator[PlotLabel]:
    for dx, dy, anchor in ((10, 4, "start"), (-10, 4, "end"), (0, -11, "middle"), (0, 20, "middle"), (9, -9, "start"),
                           (9, 18, "start"), (-9, -9, "end"), (-9, 18, "end")):  # fmt: skip
        yield PlotLabel(round(x + dx, 2), round(y + dy, 2), anchor, text)


def _box(label: PlotLabel) -> _Box:
    width = LABEL_PX * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return _Box(left, label.y - LINE_PX + 3, left + width, label.y + 3)
