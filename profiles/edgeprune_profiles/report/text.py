"""A report as Markdown for a pull request, and its raw samples as CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from edgeprune_profiles.record.power_profile import PIECES, UnitEnergy
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report import units
from edgeprune_profiles.report.advice import advice
from edgeprune_profiles.report.choice import ReportNeeds, choose_budget
from edgeprune_profiles.report.summary import Summary, summarise
from edgeprune_profiles.report.unknown import unknown_line
from edgeprune_profiles.report.verdict import points_with_interval, verdict

_NONE = ReportNeeds()


def render_markdown(report: Report, needs: ReportNeeds = _NONE) -> str:
    """What to take where needs are stated, verdict, tables, conditions, what is unknown. Ends with a newline."""
    summary = summarise(report)
    choice = choose_budget(summary, needs)
    taken = [" ".join(advice(choice))] if needs else []
    blocks = [
        *taken,
        " ".join(verdict(summary, choice.about)),
        _time_table(summary),
        *_second_table(summary),
        *_energy(summary),
        *_soak(summary),
    ]
    if report.accuracy is not None:
        metric = report.accuracy.headline
        rows = [
            [r.name, r.method, f"{r.keep_ratio:g}", units.percent(r.scores[metric]),
             points_with_interval(r.differences[metric]) if metric in r.differences else "reference"]
            for r in report.accuracy.rows
        ]  # fmt: skip
        head = ["selection", "method", "keep ratio", units.metric(metric), "points against full budget"]
        blocks.append(_table(head, rows))
    machine = report.environment
    blocks.append(
        f"Bundle `{report.bundle.name}` ({report.bundle.sha256[:12]}), {report.created}, "
        f"{machine.cpu_model or units.UNKNOWN}, {units.count(machine.cores_logical)} cores, "
        f"{'backend ' + report.backend.name + ', ' if report.backend else ''}"
        f"{units.counted(report.warmup_rounds, 'warm-up round')}, {units.counted(report.repetitions, 'round')} of "
        f"{units.counted(len(report.cases), 'picture')}, interleaved."
    )
    if unknown := unknown_line(summary):
        blocks.append(unknown)
    return "\n\n".join(blocks) + "\n"


def render_csv(report: Report) -> str:
    """One row per request: seconds, joules, tokens. An empty cell = unknown or did not run."""
    stages = summarise(report).stages
    head = ["budget", "method", "keep", "keep_ratio", "repetition", "image", "visual_tokens", "generated_tokens"]
    head += ["ttft_s", "tpot_s", "energy_j", "second_ttft_s", "second_prompt_tokens", "second_cached_tokens"]
    head += [f"{stage}_{clock}_s" for stage in stages for clock in ("wall", "cpu")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for result in report.budgets:
        b = result.budget
        for s in result.samples:
            row = [b.name, b.method, b.keep, b.keep_ratio, s.repetition, report.cases[s.case]]
            row += [s.visual_tokens, s.generated_tokens, s.ttft_s, s.tpot_s, s.energy_j]
            again = s.second
            row += [None] * 3 if again is None else [again.ttft_s, again.prompt_tokens, again.cached_tokens]
            for stage in stages:
                row += [sum(side[stage]) if stage in side else None for side in (s.wall_s, s.cpu_s)]
            writer.writerow(row)
    return out.getvalue()


def _time_table(summary: Summary) -> str:
    head = ["budget", "method", "visual tokens", "TTFT p50", "p90", "full / this", "TPOT p50", "full / this"]
    head += ["peak RSS", "energy per request"]
    rows = []
    for b in summary.budgets:
        first, later, memory = b.ttft_s, b.tpot_s, b.result.memory
        rows.append(
            [
                b.name,
                b.result.budget.method,
                units.count(b.visual_tokens),
                units.seconds(first.p50 if first else None),
                units.seconds(first.p90 if first else None),
                "reference" if b.full else units.times(b.ttft_gain),
                units.seconds(later.p50 if later else None),
                "reference" if b.full else units.times(b.tpot_gain),
                units.size(memory.peak_bytes if memory else None),
                units.marked(units.energy(b.answer_j), b.answer_doubtful),
            ]
        )
    return _table(head, rows)


def _second_table(summary: Summary) -> list[str]:
    """TTFT of a second question about the same picture."""
    head = ["second question, same picture", "prompt tokens cached", "TTFT p50", "p90", "prefill", "first / second"]
    rows = [
        [
            b.name,
            f"{units.count(b.second.cached_tokens)} of {units.count(b.second.prompt_tokens)}",
            units.seconds(b.second.ttft_s.p50),
            units.seconds(b.second.ttft_s.p90),
            units.seconds(b.second.prefill_s),
            units.times(b.second.gain),
        ]
        for b in summary.budgets
        if b.second is not None
    ]
    return [_table(head, rows)] if rows else []


def _energy(summary: Summary) -> list[str]:
    """Joules by piece, and what makes them doubtful."""
    powered = [b for b in summary.budgets if b.power]
    if not powered:
        return []
    rows = [
        [b.name, *(_marked(b.power[piece]) if piece in b.power else units.UNKNOWN for piece in PIECES)] for b in powered
    ]
    covered = next(iter(powered[0].power.values())).covers
    basis = f"Energy of {units.covers(covered)}, idling included, from {summary.report.power_source}; * is doubtful."
    doubts = [f"Doubtful, {', '.join(where)}: {sentence}." for sentence, where in summary.doubts.items()]
    return [basis, _table(["budget", *PIECES.values()], rows), *doubts]


def _marked(energy: UnitEnergy) -> str:
    return units.marked(units.give_or_take(energy.gross_j, energy.error_j), bool(energy.flags))


def _soak(summary: Summary) -> list[str]:
    return [] if summary.soak is None else [f"Soak: {sentence}." for sentence in summary.soak.flags]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
