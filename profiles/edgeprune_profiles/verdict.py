"""The sentences that a reader takes away. They claim what the interval supports, and nothing else."""

from __future__ import annotations

from edgeprune_profiles import units
from edgeprune_profiles.record import AccuracyRow, Difference
from edgeprune_profiles.stats import MIN_PAIRS, Ratio
from edgeprune_profiles.summary import BudgetSummary, Summary, accuracy_of, controls_of


def verdict(summary: Summary) -> tuple[str, ...]:
    """Sentences, the most important first: first token, what is left of it, further tokens, accuracy, controls."""
    lead = summary.smallest
    if lead is None:
        return tuple(
            f"At budget {b.name} the first token comes after {units.seconds(b.ttft_s.p50)} (median of {b.ttft_s.n}); "
            "no smaller budget was profiled."
            for b in summary.budgets
            if b.ttft_s is not None
        )
    full = next((b for b in summary.budgets if b.full), None)
    sentences = (_first(lead, full), _processor(lead), _rest(lead), _further(lead), *_accuracy(summary, lead))
    return tuple(sentence for sentence in sentences if sentence)


def _first(lead: BudgetSummary, full: BudgetSummary | None) -> str:
    gain = lead.ttft_gain
    if gain is None or full is None:
        after = units.seconds(lead.ttft_s.p50 if lead.ttft_s else None)
        return f"At budget {lead.name} the first token comes after {after}; full budget was not profiled beside it."
    if not gain.distinguishable:
        return f"At budget {lead.name} the time to the first token is {_undecided(gain)}."
    how, change = ("earlier", gain) if gain.point > 1 else ("later", _inverse(gain))
    times = (
        f"{units.seconds(lead.ttft_s.p50)} instead of {units.seconds(full.ttft_s.p50)}"
        if lead.ttft_s and full.ttft_s
        else ""
    )
    return f"At budget {lead.name} the first token comes {_factor(change)} {how}: {times}."


def _processor(lead: BudgetSummary) -> str:
    """Where the clock is undecided, because the machine is busy with other work, processor time may not be."""
    wall, cpu = lead.ttft_gain, lead.ttft_cpu_gain
    if wall is None or wall.distinguishable or cpu is None or not cpu.distinguishable:
        return ""
    how, change = ("faster", cpu) if cpu.point > 1 else ("slower", _inverse(cpu))
    return f"In processor time, which other programs hardly disturb, it is {_factor(change)} {how}."


def _rest(lead: BudgetSummary) -> str:
    if lead.untouched is None:
        return ""
    return (
        f"Preprocessing and the vision tower, which dropping tokens does not shorten, are "
        f"{units.percent(lead.untouched, 0)} of what is left."
    )


def _further(lead: BudgetSummary) -> str:
    gain = lead.tpot_gain
    if gain is None:
        return ""
    if not gain.distinguishable:
        return f"The time per further token is {_undecided(gain)}."
    how, change = ("faster", gain) if gain.point > 1 else ("slower", _inverse(gain))
    return f"Further tokens come {_factor(change)} {how}."


def _accuracy(summary: Summary, lead: BudgetSummary) -> tuple[str, ...]:
    accuracy = summary.report.accuracy
    row = None if accuracy is None else accuracy_of(accuracy, lead.result.budget)
    if accuracy is None or row is None:
        return ("Accuracy was not evaluated, so nothing is known about what the dropped tokens cost.",)
    sentences = [
        f"{units.metric(accuracy.headline)}: {_score(row, accuracy.headline)} over {accuracy.questions} questions."
    ]
    controls = controls_of(accuracy, lead.result.budget)
    if controls:
        scores = ", ".join(f"{c.method} {units.percent(c.scores[accuracy.headline])}" for c in controls)
        sentences.append(f"At the same budget: {scores}.")
    return tuple(sentences)


def _score(row: AccuracyRow, metric: str) -> str:
    score, difference = row.scores[metric], row.differences.get(metric)
    if difference is None:
        return units.percent(score)
    return (
        f"{units.percent(score)} against {units.percent(score - difference.point)} at full budget "
        f"(points: {points_with_interval(difference)})"
    )


def points_with_interval(difference: Difference) -> str:
    """`-0.9 [-2.1, +0.2], not distinguishable`, in percentage points."""
    interval = f"[{units.points(difference.low)}, {units.points(difference.high)}]"
    few = f" ({difference.clusters} of {MIN_PAIRS} pictures needed)" if difference.clusters < MIN_PAIRS else ""
    tail = "" if difference.distinguishable else f", not distinguishable{few}"
    return f"{units.points(difference.point)} {interval}{tail}"


def _factor(ratio: Ratio) -> str:
    return f"{ratio.point:.1f}x [{ratio.low:.1f}, {ratio.high:.1f}]" if ratio.low >= 1.2 else units.times(ratio)


def _inverse(ratio: Ratio) -> Ratio:
    return Ratio(1 / ratio.point, 1 / ratio.high, 1 / ratio.low, ratio.n, ratio.distinguishable)


def _undecided(ratio: Ratio) -> str:
    if ratio.n < MIN_PAIRS:
        return f"not distinguishable from full budget: {ratio.n} pairs were measured, {MIN_PAIRS} are needed"
    return (
        f"not distinguishable from full budget ({ratio.point:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}], "
        f"{ratio.n} pairs)"
    )
