"""The front of a search as ONE page, made of the report's own parts: no requests, no scripts, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeprune_profiles.report.chart_bars import WIDTH, LegendKey
from edgeprune_profiles.report.chart_front import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, FrontChart, FrontPoint
from edgeprune_profiles.report.chart_lines import round_ticks

#: Colour, shape and name of each kind of schedule, in the order of the legend.
_KINDS = {
    "whole": ("c0", "ring", "whole model"),
    "uniform": ("c1", "square", "uniform"),
    "found": ("c3", "circle", "found, and its shape at other prices"),
    "tried": ("c4", "cross", "tried on the way"),
}


class PricedSchedule(Protocol):
    """price: a share of the whole model's; cost: less is better; kind: whole, uniform, found or tried."""

    @property
    def plan(self) -> str: ...

    @property
    def price(self) -> float: ...

    @property
    def cost(self) -> float: ...

    @property
    def kind(self) -> str: ...


def schedule_chart(points: Sequence[PricedSchedule], x_label: str) -> FrontChart:
    """Price against cost; the front joins those that no other beats in both."""
    shown = _near(points)
    x_ticks = round_ticks(min(one.price for one in shown), max(one.price for one in shown))
    y_ticks = round_ticks(min(0.0, *(one.cost for one in shown)), max(one.cost for one in shown))

    def place(one: PricedSchedule) -> tuple[float, float]:
        return _on(one.price, x_ticks, LEFT, RIGHT), _on(one.cost, y_ticks, BOTTOM, TOP)

    kinds = [kind for kind in _KINDS if any(one.kind == kind for one in shown)]
    return FrontChart(
        HEIGHT, LEFT, RIGHT, TOP, BOTTOM,
        points=tuple(
            FrontPoint(*place(one), None, None, *_KINDS[one.kind][:2], None, _title(one), False)
            for one in sorted(shown, key=lambda one: -list(_KINDS).index(one.kind))
        ),
        front=tuple(place(one) for one in front(shown)),
        limits=(),
        x_label=x_label,
        x_ticks=tuple((_on(tick, x_ticks, LEFT, RIGHT), f"{tick:g}") for tick in x_ticks),
        y_ticks=tuple((_on(tick, y_ticks, BOTTOM, TOP), f"{tick:g}") for tick in y_ticks),
        legend=(*(LegendKey(_KINDS[kind][0], _KINDS[kind][2], _KINDS[kind][1]) for kind in kinds), LegendKey("", "front", "front")),
        beyond=(),
    )  # fmt: skip


def front(points: Sequence[PricedSchedule]) -> list[PricedSchedule]:
    """Those that no other one beats in both, by price."""
    found: list[PricedSchedule] = []
    for one in sorted(points, key=lambda one: (one.price, one.cost)):
        if not found or one.cost < found[-1].cost:
            found.append(one)
    return found


def schedule_page(model: str, said: str, points: Sequence[PricedSchedule], x_label: str, y_label: str) -> str:
    """The whole page as text; everything is escaped."""
    import jinja2  # here, so that who draws nothing does not pay for it

    page = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeprune_profiles.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = front(points)
    chart = schedule_chart(points, x_label)
    return page.get_template("schedules.html.j2").render(
        model=model, said=said, chart=chart, table=table, y_label=y_label, width=WIDTH
    )


def _near(points: Sequence[PricedSchedule]) -> list[PricedSchedule]:
    """Without what would squeeze the others: tried schedules that cost more than all of the uniform and found ones."""
    most = max((one.cost for one in points if one.kind != "tried"), default=float("inf"))
    return [one for one in points if one.kind != "tried" or one.cost <= most]


def _on(value: float, ticks: Sequence[float], first: float, last: float) -> float:
    return round(first + (last - first) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)


def _title(one: PricedSchedule) -> str:
    return f"{one.plan}: price {one.price:.3f}, cost {one.cost:.4g}"
