"""The sentences that a reader takes away. They claim what the interval supports, and nothing else."""

from __future__ import annotations

from edgeprune_profiles.record.power_profile import REQUEST, energy_ratio
from edgeprune_profiles.record.profile import AccuracyRow
from edgeprune_profiles.record.sustain import SoakSummary
from edgeprune_profiles.report import units
from edgeprune_profiles.report.busy import busy_sentence
from edgeprune_profiles.report.summary import BudgetSummary, Summary, accuracy_of, controls_of
from edgeprune_runtime.statistics import LEAST, PairedDifference, Ratio


def verdict(summary: Summary, about: BudgetSummary | None = None) -> tuple[str, ...]:
    """Sentences, the most important first: first token, what is left of it, further tokens, energy, soak, accuracy, controls, and what
    disturbed all of it.

    about   the budget to speak of, such as one that was chosen; by default, and for full budget, the one that keeps least
    """
    lead = summary.smallest if about is None or about.full else about
    return tuple(sentence for sentence in (*_found(summary, lead), busy_sentence(summary.report)) if sentence)


def _found(summary: Summary, lead: BudgetSummary | None) -> tuple[str, ...]:
    full = next((b for b in summary.budgets if b.full), None)
    power = (_energy(summary, lead or full, full), *_soak(summary.soak))
    if lead is None:
        times = [
            f"At budget {b.name} the first token comes after {units.seconds(b.ttft_s.p50)} (median of {b.ttft_s.n}); "
            "no smaller budget was profiled."
            for b in summary.budgets
            if b.ttft_s is not None
        ]
        return tuple(sentence for sentence in (*times, *power) if sentence)
    sentences = (
        _first(lead, full),
        _processor(lead),
        _rest(lead),
        _second(lead),
        _further(lead),
        *power,
        *_accuracy(summary, lead),
    )
    return tuple(sentence for sentence in sentences if sentence)


def _first(lead: BudgetSummary, full: BudgetSummary | None) -> str:
    gain = lead.ttft_gain
    if gain is None or full is None:
        after = units.seconds(lead.ttft_s.p50 if lead.ttft_s else None)
        return f"At budget {lead.name} the first token comes after {after}; full budget was not profiled beside it."
    if not gain.distinguishable:
        return f"At budget {lead.name} the time to the first token is {_undecided(gain)}."
    how, change = ("earlier", gain) if gain.point > 1 else ("later", gain.inverse)
    times = (
        f"{units.seconds(lead.ttft_s.p50)} instead of {units.seconds(full.ttft_s.p50)}"
        if lead.ttft_s and full.ttft_s
        else ""
    )
    return f"At budget {lead.name} the first token comes {_factor(change)} {how}: {times}.{_apart(gain, lead, full)}"


def _apart(gain: Ratio, lead: BudgetSummary, full: BudgetSummary) -> str:
    """Why the factor is not that of the two medians beside it, where it is not."""
    if lead.ttft_s is None or full.ttft_s is None:
        return ""
    return units.apart(gain, full.ttft_s.p50 / lead.ttft_s.p50)


def _processor(lead: BudgetSummary) -> str:
    """Where the clock is undecided, because the machine is busy with other work, processor time may not be."""
    wall, cpu = lead.ttft_gain, lead.ttft_cpu_gain
    if wall is None or wall.distinguishable or cpu is None or not cpu.distinguishable:
        return ""
    how, change = ("faster", cpu) if cpu.point > 1 else ("slower", cpu.inverse)
    return f"In processor time, which other programs hardly disturb, it is {_factor(change)} {how}."


def _rest(lead: BudgetSummary) -> str:
    if lead.untouched is None:
        return ""
    return (
        f"Preprocessing and the vision tower, which dropping tokens does not shorten, are "
        f"{units.percent(lead.untouched, 0)} of what is left."
    )


def _second(lead: BudgetSummary) -> str:
    second = lead.second
    if second is None or not second.gain.distinguishable:
        return ""
    how, change = ("earlier", second.gain) if second.gain.point > 1 else ("later", second.gain.inverse)
    after = units.seconds(second.ttft_s.p50)
    return f"A second question about the same picture gets its first token {_factor(change)} {how}: after {after}."


def _further(lead: BudgetSummary) -> str:
    gain = lead.tpot_gain
    if gain is None:
        return ""
    if not gain.distinguishable:
        return f"The time per further token is {_undecided(gain)}."
    how, change = ("faster", gain) if gain.point > 1 else ("slower", gain.inverse)
    return f"Further tokens come {_factor(change)} {how}."


def _energy(summary: Summary, lead: BudgetSummary | None, full: BudgetSummary | None) -> str:
    """Of power windows only; a counter that was read around single requests stands in the tables."""
    source = summary.report.power_source
    if source is None or lead is None:
        return ""
    mine, most = lead.power.get(REQUEST), None if full is None else full.power.get(REQUEST)
    if mine is None or mine.gross_j is None:
        missing = "no power sensor could measure this work" if mine is None else "the readings do not cover the work"
        return f"Energy is unknown: {missing}."
    ratio = None if lead is full else energy_ratio(most, mine)
    doubtful = mine.flags or (ratio and most and most.flags)
    tail = f"({units.covers(mine.covers)}{'; doubtful, see the marks' if doubtful else ''})"
    if ratio is None or most is None:
        return f"An answer at budget {lead.name} takes {units.energy(mine.gross_j)} {tail}."
    if not ratio.distinguishable:
        return (
            f"The energy of an answer is not distinguishable from full budget ({units.energy(mine.gross_j)} and "
            f"{units.energy(most.gross_j)}, which differ by less than the error of the method) {tail}."
        )
    how, change = ("less", ratio) if ratio.point > 1 else ("more", energy_ratio(mine, most) or ratio)
    return (
        f"An answer takes {units.bounds(change)} {how} energy: {units.energy(mine.gross_j)} instead of "
        f"{units.energy(most.gross_j)} {tail}."
    )


def _soak(soak: SoakSummary | None) -> tuple[str, ...]:
    if soak is None:
        return ()
    slowdown = soak.slowdown
    rates = f"{units.per_second(soak.last.requests_per_s)} instead of {units.per_second(soak.first.requests_per_s)}"
    if slowdown is None or not slowdown.distinguishable:
        what = f"the last minute is not distinguishable from the first ({rates})"
    else:
        what = f"requests take {units.times(slowdown)} as long in the last minute as in the first ({rates})"
    board = soak.last.stretch.board
    held = f", held back by {', '.join(board.throttle)}" if board and board.throttle else ""
    return (f"Asked for {units.duration(soak.duration_s)} without a pause at budget {soak.budget}, {what}{held}.",)


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


def points_with_interval(difference: PairedDifference) -> str:
    """`-0.9 [-2.1, +0.2], not distinguishable`, in percentage points."""
    interval = f"[{units.points(difference.low)}, {units.points(difference.high)}]"
    few = f" ({difference.clusters} of {LEAST} pictures needed)" if difference.clusters < LEAST else ""
    tail = "" if difference.distinguishable else f", not distinguishable{few}"
    return f"{units.points(difference.point)} {interval}{tail}"


def _factor(ratio: Ratio) -> str:
    return f"{ratio.point:.1f}x [{ratio.low:.1f}, {ratio.high:.1f}]" if ratio.low >= 2 else units.times(ratio)


def _undecided(ratio: Ratio) -> str:
    if ratio.n < LEAST:
        measured = f"{ratio.n} pair was" if ratio.n == 1 else f"{ratio.n} pairs were"
        return f"not distinguishable from full budget: {measured} measured, {LEAST} are needed"
    return (
        f"not distinguishable from full budget ({ratio.point:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}], "
        f"{ratio.n} pairs)"
    )
