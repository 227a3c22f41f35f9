"""A profile in the terminal: verdict, tables that fit 80 columns, conditions, what is unknown."""

from __future__ import annotations

from edgeprune.cli.console import out, say
from edgeprune.cli.tables import columns, show_table
from edgeprune_profiles import Report
from edgeprune_profiles.report import units
from edgeprune_profiles.report.busy import use_text
from edgeprune_profiles.report.summary import BudgetSummary, Summary, summarise
from edgeprune_profiles.report.unknown import unknown_line
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.meters import StateSummary
from edgeprune_runtime.statistics import LEAST, Percentiles, Ratio

_GAIN = "full / this"
_LEFT = ("budget", _GAIN)


def show(report: Report) -> None:
    """Print to stdout."""
    summary = summarise(report)
    for sentence in verdict(summary):
        say(sentence)
    out.print()
    for table in (_first_token, _second_question, _stages, _further_tokens, _processor, _memory):
        table(summary)
    _power(summary)
    _soak(summary)
    say(f"{_GAIN}: the median over pairs, {_interval(summary)}; ~ is not distinguishable from 1.", style="dim")
    for line in _conditions(report):
        say(line, style="dim")
    if unknown := unknown_line(summary):
        say(unknown, style="dim")


def _first_token(summary: Summary) -> None:
    rows = [
        [b.with_method, units.count(b.visual_tokens), *_both(b.ttft_s), _gain(b, b.ttft_gain, summary)]
        for b in summary.budgets
    ]
    show_table("Time to first token (TTFT)", columns(["budget", "tokens kept", "p50", "p95", _GAIN], _LEFT), rows)


def _second_question(summary: Summary) -> None:
    rows = [
        [
            b.with_method,
            f"{units.count(b.second.cached_tokens)} of {units.count(b.second.prompt_tokens)}",
            *_both(b.second.ttft_s),
            units.seconds(b.second.prefill_s),
            units.short_times(b.second.gain),
        ]
        for b in summary.budgets
        if b.second is not None
    ]
    if rows:
        head = ["budget", "prompt tokens cached", "p50", "p95", "prefill", "first / second"]
        show_table("TTFT of a second question about the same picture", columns(head, (*_LEFT, "first / second")), rows)


def _stages(summary: Summary) -> None:
    rows = [
        [
            b.with_method,
            *(units.seconds(b.stages[stage].wall_s if stage in b.stages else None) for stage in summary.stages),
            units.percent(b.untouched, 0),
        ]
        for b in summary.budgets
    ]
    title = "Stages (medians; decode per token; fixed: preprocess and tower in TTFT)"
    show_table(title, columns(["budget", *summary.stages, "fixed"], _LEFT), rows)


def _further_tokens(summary: Summary) -> None:
    rows = [
        [b.with_method, *_both(b.tpot_s), units.rate(b.tokens_per_s), _gain(b, b.tpot_gain, summary)]
        for b in summary.budgets
    ]
    show_table("Time per output token (TPOT)", columns(["budget", "p50", "p95", "tokens/s", _GAIN], _LEFT), rows)


def _processor(summary: Summary) -> None:
    rows = [
        [
            b.with_method,
            units.seconds(b.ttft_cpu_s),
            _gain(b, b.ttft_cpu_gain, summary),
            units.seconds(b.stages["decode"].cpu_s if "decode" in b.stages else None),
        ]
        for b in summary.budgets
    ]
    head = ["budget", "to first token", _GAIN, "per output token"]
    show_table("Processor time of all threads", columns(head, _LEFT), rows)


def _memory(summary: Summary) -> None:
    with_energy = any(b.answer_j is not None for b in summary.budgets)
    rows = []
    for b in summary.budgets:
        memory = b.result.memory
        row = [
            b.with_method,
            units.size(memory.peak_bytes if memory else None),
            units.size(memory.anonymous_bytes if memory else None),
            units.size(b.result.budget.cache_bytes),
        ]
        rows.append([*row, *([units.marked(units.energy(b.answer_j), b.answer_doubtful)] if with_energy else [])])
    head = ["budget", "peak memory", "anonymous", "cache used", *(["energy per answer"] if with_energy else [])]
    show_table("Memory and energy" if with_energy else "Memory", columns(head, _LEFT), rows)


def _power(summary: Summary) -> None:
    rows = [
        [
            b.with_method,
            each.piece,
            each.unit,
            units.marked(units.give_or_take(each.gross_j, each.error_j), bool(each.flags)),
            units.give_or_take(each.net_j, each.net_error_j),
            units.power(each.power_w.p50 if each.power_w else None),
            units.power(each.idle_w),
        ]
        for b in summary.budgets
        for each in b.power.values()
    ]
    if rows:
        head = ["budget", "piece", "per", "energy", "above idle", "power p50", "idle"]
        show_table(
            "Energy by piece, each repeated alone; * is doubtful", columns(head, ("budget", "piece", "per")), rows
        )
    for sentence, where in summary.doubts.items():
        say(f"* {', '.join(where)}: {sentence}", style="yellow")


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
    show_table(title, columns(("", "requests", "power", "hottest", "clocks", "throttled"), ("", "clocks")), rows)
    for sentence in soak.flags:
        say(sentence, style="yellow")


def _board(board: StateSummary | None) -> tuple[str, str, str]:
    if board is None:
        return (units.UNKNOWN,) * 3
    clocks = ", ".join(f"{name} {units.frequency(round(hertz))}" for name, hertz in board.mean_hz.items())
    hottest = units.celsius(max(board.hottest_c.values(), default=None))
    return hottest, clocks or units.UNKNOWN, units.percent(board.throttled_share, 0)


def _both(times: Percentiles | None) -> tuple[str, str]:
    return units.seconds(times.p50 if times else None), units.seconds(times.p95 if times else None)


def _gain(b: BudgetSummary, gain: Ratio | None, summary: Summary) -> str:
    if b.full:
        return "reference"
    return units.short_times(gain) if any(other.full for other in summary.budgets) else "no baseline"


def _interval(summary: Summary) -> str:
    pairs = [b.ttft_gain.n for b in summary.budgets if b.ttft_gain is not None]
    return f"of which 1 has no interval: give --runs {LEAST}" if 1 in pairs else "with its 95 % interval"


def _conditions(report: Report) -> list[str]:
    machine = report.environment
    pictures = units.counted(len(report.cases), "picture")
    return [
        f"{units.counted(report.warmup_rounds, 'warm-up round')} thrown away, then {units.counted(report.repetitions, 'round')} of "
        f"{pictures}, budgets interleaved.",
        f"Memory: {report.memory_scope}.",
        *([] if report.power_source is None else [f"Energy: {report.power_source}."]),
        f"Before: {use_text(report.use_before)}. During: {use_text(report.use_during)}.",
        *report.notes,
        *([f"Backend: {report.backend.name}."] if report.backend else []),
        f"{machine.cpu_model or 'processor unknown'}, {units.count(machine.cores_usable)} cores usable, threads "
        f"{report.threads or 'as the backend chooses'}, governor {machine.governor or units.UNKNOWN}, "
        f"{machine.isolation or 'no sign of a container or virtual machine'}.",
    ]
