"""The front of a search: what no other schedule beats in both, drawn without what would squeeze it, and nothing of a plan is markup."""

from __future__ import annotations

from typing import NamedTuple

from edgeprune_profiles.schedules.page import front, schedule_chart, schedule_page


class Priced(NamedTuple):
    plan: str
    price: float
    cost: float
    kind: str


POINTS = (
    Priced("all", 1.0, 0.0, "whole"),
    Priced("even <b>", 0.6, 0.2, "uniform"),
    Priced("best", 0.6, 0.1, "found"),
    Priced("even less", 0.5, 0.4, "uniform"),
    Priced("bad", 0.6, 9.0, "tried"),
)


def test_on_the_front_is_what_nobody_beats_in_both() -> None:
    assert [one.plan for one in front(POINTS)] == ["even less", "best", "all"]


def test_what_was_tried_and_is_far_off_does_not_squeeze_the_drawing() -> None:
    chart = schedule_chart(POINTS, "MACs")
    assert len(chart.points) == 4 and len(chart.front) == 3
    assert all(chart.left <= one.x <= chart.right and chart.top <= one.y <= chart.bottom for one in chart.points)
    assert [key.name for key in chart.legend] == [
        "whole model",
        "uniform",
        "found, and its shape at other prices",
        "front",
    ]


def test_the_page_is_one_file_that_escapes_what_it_is_given() -> None:
    page = schedule_page("model & co", "said <so>", POINTS, "MACs", "divergence")
    assert page.count("<svg") >= 1 and "<script" not in page and "http" not in page
    assert "even &lt;b&gt;" in page and "said &lt;so&gt;" in page and "model &amp; co" in page
