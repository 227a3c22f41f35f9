"""A report as ONE page: no requests, no scripts, light and dark, readable on a phone. Plots are inline SVG."""

from __future__ import annotations

from edgeprune_profiles.record.power_profile import PIECES, REQUEST
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report import chart_bars, chart_front, chart_lines, units
from edgeprune_profiles.report.advice import advice
from edgeprune_profiles.report.busy import use_text
from edgeprune_profiles.report.choice import ReportNeeds, choose_budget
from edgeprune_profiles.report.summary import Summary, summarise
from edgeprune_profiles.report.unknown import unknowns
from edgeprune_profiles.report.verdict import points_with_interval, verdict

_NONE = ReportNeeds()


def render_html(report: Report, needs: ReportNeeds = _NONE) -> str:
    """The whole page as text. Everything from the report is escaped.

    needs   what a budget must meet; memory is otherwise held against that of the machine that was measured
    """
    import jinja2  # here, so that reading a report does not pay for it

    loader = jinja2.PackageLoader("edgeprune_profiles.report", "templates")
    page = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.globals.update(units=units, points_with_interval=points_with_interval)
    summary = summarise(report)
    choice = choose_budget(summary, needs)
    limit_bytes = needs.memory_bytes
    limit = report.environment.memory_bytes if limit_bytes is None else limit_bytes
    return page.get_template("report.html.j2").render(
        report=report,
        summary=summary,
        verdict=verdict(summary, choice.about),
        advice=advice(choice) if needs else (),
        front=chart_front.front(choice, report.accuracy),
        unknown=unknowns(summary),
        use_text=use_text,
        first_token=chart_bars.first_token(summary, needs.ttft_s),
        further_tokens=chart_bars.further_tokens(summary),
        memory=chart_bars.memory(summary, limit),
        memory_limit=_limit(summary, limit, "the machine's memory" if limit_bytes is None else "the limit"),
        energy=chart_bars.energy(summary, needs.energy_j),
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
    return f"{name[0].upper()}{name[1:]} is {units.limit_size(limit_bytes)}{taken}. Other programs need some as well."
