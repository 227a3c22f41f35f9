"""A report as ONE page: no requests, no scripts, light and dark, readable on a phone. Plots are inline SVG."""

from __future__ import annotations

from edgeprune_profiles import charts, units
from edgeprune_profiles.record import Report
from edgeprune_profiles.summary import summarise
from edgeprune_profiles.verdict import points_with_interval, verdict


def render_html(report: Report) -> str:
    """The whole page as text. Everything from the report is escaped."""
    import jinja2  # here, so that reading a report does not pay for it

    loader = jinja2.PackageLoader("edgeprune_profiles", "templates")
    page = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.globals.update(units=units, points_with_interval=points_with_interval)
    summary = summarise(report)
    return page.get_template("report.html.j2").render(
        report=report,
        summary=summary,
        verdict=verdict(summary),
        first_token=charts.first_token(summary),
        further_tokens=charts.further_tokens(summary),
        memory=charts.memory(summary),
        accuracy=None if report.accuracy is None else charts.accuracy(report.accuracy),
        width=charts.WIDTH,
        bar=charts.BAR,
    )
