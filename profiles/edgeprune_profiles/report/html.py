"""A report as ONE page: no requests, no scripts, light and dark, readable on a phone. Plots are inline SVG."""

from __future__ import annotations

from edgeprune_profiles.record.power_profile import PIECES, REQUEST
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report import chart_bars, chart_lines, units
from edgeprune_profiles.report.summary import Summary, summarise
from edgeprune_profiles.report.verdict import points_with_interval, verdict


def render_html(report: Report, limit_bytes: int | None = None) -> str:
    """The whole page as text. Everything from the report is escaped.

    limit_bytes   what memory is held against; None: the memory of the machine that was measured
    """
    import jinja2  # here, so that reading a report does not pay for it

    loader = jinja2.PackageLoader("edgeprune_profiles.report", "templates")
    page = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.globals.update(units=units, points_with_interval=points_with_interval)
    summary = summarise(report)
    limit = report.environment.memory_bytes if limit_bytes is None else limit_bytes
    return page.get_template("report.html.j2").render(
        report=report,
        summary=summary,
        verdict=verdict(summary),
        first_token=chart_bars.first_token(summary),
        further_tokens=chart_bars.further_tokens(summary),
        memory=chart_bars.memory(summary, limit),
        memory_limit=_limit(summary, limit, "the machine's memory" if limit_bytes is None else "the limit"),
        energy=chart_bars.energy(summary),
        energy_basis=_energy_basis(summary),
        power_pieces=PIECES,
        accuracy=None if report.accuracy is None else chart_lines.accuracy(report.accuracy),
        soak_panels=() if summary.soak is None else chart_lines.soak_panels(summary.soak),
        width=chart_bars.WIDTH,
        bar=chart_bars.BAR,
    )


def _energy_basis(summary: Summary) -> str:
    windows = [found for b in summary.budgets if (found := b.power.get(REQUEST))]
    if not windows:
        return f"Counted around single requests, {summary.report.energy_source}."
    return (
        f"Of {units.covers(windows[0].covers)}, idling included, with the error of the method. Parts were repeated alone, "
        "so they need not add up to the answer."
    )


def _limit(summary: Summary, limit_bytes: int | None, name: str) -> str:
    """How much of the limit the largest budget takes, as a sentence."""
    if limit_bytes is None:
        return "No limit is known."
    peaks = [b.result.memory.peak_bytes for b in summary.budgets if b.result.memory]
    taken = f"; the highest takes {units.percent(max(peaks) / limit_bytes, 0)} of it" if peaks else ""
    return f"{name[0].upper()}{name[1:]} is {units.size(limit_bytes)}{taken}. Other programs need some as well."
