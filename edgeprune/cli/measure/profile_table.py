"""A profile in the terminal: verdict, two tables, conditions."""

from __future__ import annotations

from edgeprune.cli.console import out
from edgeprune.cli.tables import show_table
from edgeprune_profiles import Report
from edgeprune_profiles.report import units
from edgeprune_profiles.report.busy import use_text
from edgeprune_profiles.report.summary import BudgetSummary, Summary, summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.meters import StateSummary
from edgeprune_runtime.statistics import Percentiles, Ratio

_GAIN, _CPU_GAIN = "full / this", "full / this (CPU)"
_LEFT = ("budget", _GAIN, _CPU_GAIN)


def show(report: Report) -> None:
    """Print to stdout."""
    summary = summarise(report)
    for sentence in verdict(summary):
        out.print(sentence, highlight=False)
    out.print()
    _first_token(summary)
    _rest(summary)
    _power(summary)
    _soak(summary)
    for line in _conditions(report):
        out.print(line, style="dim", highlight=False, markup=False)


def _first_token(summary: Summary) -> None:
    stages = [stage for stage in summary.stages if stage != "decode"]
    rows = [
        [
            *_name(b),
            *_both(b.ttft_s),
            *(units.seconds(b.stages[stage].wall_s if stage in b.stages else None) for stage in stages),
            units.percent(b.untouched, 0),
            _gain(b, b.ttft_gain, summary),
            units.seconds(b.ttft_cpu_s),
            _gain(b, b.ttft_cpu_gain, summary),
        ]
        for b in summary.budgets
    ]
    head = ["budget", "K", "p50", "p95", *stages, "fixed", _GAIN, "CPU time", _CPU_GAIN]
    show_table("To the first token", head, rows, _LEFT)


def _rest(summary: Summary) -> None:
    rows = []
    for b in summary.budgets:
        memory, decode = b.result.memory, b.stages.get("decode")
        rows.append(
            [
                *_name(b),
                *_both(b.tpot_s),
                units.seconds(decode.cpu_s if decode else None),
                units.rate(b.tokens_per_s),
                _gain(b, b.tpot_gain, summary),
                units.size(memory.peak_bytes if memory else None),
                units.size(memory.anonymous_bytes if memory else None),
                units.size(b.result.budget.cache_bytes),
                units.marked(units.energy(b.answer_j), b.answer_doubtful),
            ]
        )
    head = ["budget", "K", "per token p50", "p95", "CPU time", "tokens/s", _GAIN, "peak memory", "anonymous"]
    show_table("Further tokens, memory, energy", [*head, "cache used", "energy"], rows, _LEFT)


def _power(summary: Summary) -> None:
    rows = [
        [
            f"{b.name} {b.result.budget.method}",
            each.piece,
            each.unit,
            units.give_or_take(each.gross_j, each.error_j),
            units.give_or_take(each.net_j, each.net_error_j),
            units.power(each.power_w.p50 if each.power_w else None),
            units.power(each.idle_w),
            "yes" if each.flags else "",
        ]
        for b in summary.budgets
        for each in b.power.values()
    ]
    if rows:
        head = ["budget", "piece", "per", "energy", "above idle", "power p50", "idle", "doubtful"]
        show_table("Energy by piece, each repeated alone", head, rows, ("budget", "piece", "per"))
    for sentence, where in summary.doubts.items():
        out.print(f"{', '.join(where)}: {sentence}", style="yellow", highlight=False, markup=False)


def _soak(summary: Summary) -> None:
    soak = summary.soak
    if soak is None:
        return
    rows = [
        [
            name,
            units.per_second(part.requests_per_s),
            units.power(part.stretch.power_w),
            *_board(part.stretch.board),
        ]
        for name, part in (("first minute", soak.first), ("last minute", soak.last))
    ]
    title = f"Soak of {units.duration(soak.duration_s)} at budget {soak.budget}"
    show_table(title, ["", "requests", "power", "hottest", "clocks", "throttled"], rows, ("", "clocks"))
    for sentence in soak.flags:
        out.print(sentence, style="yellow", highlight=False, markup=False)


def _board(board: StateSummary | None) -> tuple[str, str, str]:
    if board is None:
        return (units.UNKNOWN,) * 3
    clocks = ", ".join(f"{name} {units.frequency(round(hertz))}" for name, hertz in board.mean_hz.items())
    hottest = units.celsius(max(board.hottest_c.values(), default=None))
    return hottest, clocks or units.UNKNOWN, units.percent(board.throttled_share, 0)


def _name(b: BudgetSummary) -> tuple[str, str]:
    return f"{b.name} {b.result.budget.method}", units.count(b.visual_tokens)


def _both(times: Percentiles | None) -> tuple[str, str]:
    return units.seconds(times.p50 if times else None), units.seconds(times.p95 if times else None)


def _gain(b: BudgetSummary, gain: Ratio | None, summary: Summary) -> str:
    if b.full:
        return "reference"
    return units.times(gain) if any(other.full for other in summary.budgets) else "no baseline"


def _conditions(report: Report) -> list[str]:
    machine = report.environment
    plural = "s" if len(report.cases) != 1 else ""
    return [
        f"{report.warmup_rounds} warm-up rounds thrown away, then {report.repetitions} rounds of {len(report.cases)} "
        f"picture{plural}, budgets interleaved; stages and CPU time (all threads) are medians; fixed = preprocessing and "
        "tower, which pruning cannot shorten.",
        f"Memory: {report.memory_scope}. Energy: {report.power_source or report.energy_source}.",
        f"Before: {use_text(report.use_before)}. During: {use_text(report.use_during)}.",
        *report.notes,
        *([f"Backend: {report.backend.name}."] if report.backend else []),
        f"{machine.cpu_model or 'processor unknown'}, {units.count(machine.cores_usable)} cores usable, threads "
        f"{report.threads or 'as the backend chooses'}, governor {machine.governor or units.UNKNOWN}, "
        f"{machine.isolation or 'no sign of a container or virtual machine'}.",
    ]
