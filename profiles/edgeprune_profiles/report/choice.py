"""Which of the measured budgets to take under stated needs, and why.

An answer to a need is `yes` or `no` where the whole interval says so, `open` where the interval crosses what is asked, and `unknown` where
nothing was measured. A time is held against its requests, from the 5th to the 95th percentile, as for boards; an accuracy against the
95 % interval of its difference to full budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgeprune_profiles.record.power_profile import REQUEST
from edgeprune_profiles.report.summary import BudgetSummary, Summary, accuracy_of, full_score
from edgeprune_runtime.statistics import Interval

Met = Literal["yes", "no", "open", "unknown"]
_WORST_FIRST: tuple[Met, ...] = ("no", "unknown", "open", "yes")


@dataclass(frozen=True, slots=True)
class ReportNeeds:
    """What is asked of a budget; None where it does not matter.

    accuracy   least difference to full budget in the evaluation's leading metric, as a share: -0.03 for three points
    score      or the least score itself, as a share
    """

    ttft_s: float | None = None
    tokens_per_s: float | None = None
    accuracy: float | None = None
    memory_bytes: int | None = None
    energy_j: float | None = None
    score: float | None = None

    def least_points(self, full_score: float | None) -> float | None:
        """The least difference to full budget that is asked for, which scored so; None where nothing is, or it is not known."""
        if self.score is None:
            return self.accuracy
        return None if full_score is None else self.score - full_score

    def __bool__(self) -> bool:
        return self != ReportNeeds()


@dataclass(frozen=True, slots=True)
class WeighedBudget:
    """One measured budget with what decides about it; None = unknown.

    score     share of the leading metric
    points    its difference to full budget, as a share; 0 for full budget itself
    front     no other one is both sooner and more accurate
    """

    summary: BudgetSummary
    ttft_s: Interval | None
    tokens_per_s: Interval | None
    score: float | None
    points: Interval | None
    memory_bytes: int | None
    energy_j: Interval | None
    answers: Mapping[str, Met]
    front: bool = False

    @property
    def name(self) -> str:
        return self.summary.name

    @property
    def meets(self) -> Met:
        found = set(self.answers.values())
        return next((word for word in _WORST_FIRST if word in found), "yes")


ChosenBy = Literal["fastest", "most accurate", "keeps most", "none"]


@dataclass(frozen=True, slots=True)
class BudgetChoice:
    """`taken`: None where nothing is sure to meet the needs, or none were stated; `nearest` then may meet them.

    rule   what decided between several that meet them
    """

    needs: ReportNeeds
    budgets: tuple[WeighedBudget, ...]
    taken: WeighedBudget | None = None
    nearest: WeighedBudget | None = None
    rule: ChosenBy = "none"

    @property
    def about(self) -> BudgetSummary | None:
        """The budget that sentences are to speak of; None where none was chosen."""
        one = self.taken or self.nearest
        return None if one is None else one.summary


def choose_budget(summary: Summary, needs: ReportNeeds) -> BudgetChoice:
    """Among the budgets that meet the needs: the most accurate; where an accuracy was asked for and is met, the fastest; where none is
    known, the one that keeps most.
    """
    weighed = _with_front([_weighed(b, summary, needs) for b in summary.budgets])
    if not needs:
        return BudgetChoice(needs, weighed)
    meeting = [one for one in weighed if one.meets == "yes"]
    if meeting:
        taken, rule = _best(meeting, needs)
        return BudgetChoice(needs, weighed, taken=taken, rule=rule)
    perhaps = [one for one in weighed if one.meets == "open"] or [one for one in weighed if one.meets == "unknown"]
    nearest, rule = _best(perhaps, needs) if perhaps else (None, "none")
    return BudgetChoice(needs, weighed, nearest=nearest, rule=rule)


def _best(found: Sequence[WeighedBudget], needs: ReportNeeds) -> tuple[WeighedBudget, ChosenBy]:
    scored = [one for one in found if one.score is not None]
    if not scored:
        return max(found, key=lambda one: (one.summary.visual_tokens or 0, -_first_s(one))), "keeps most"
    if needs.accuracy is None and needs.score is None:
        return max(scored, key=lambda one: (one.score or 0.0, -_first_s(one))), "most accurate"
    fastest = min(scored, key=_first_s)
    slow_s = fastest.ttft_s.high if fastest.ttft_s else float("inf")
    as_fast = [one for one in scored if _first_s(one) <= slow_s]  # nobody waits for less than requests differ
    return max(as_fast, key=lambda one: one.score or 0.0), "fastest"


def _first_s(one: WeighedBudget) -> float:
    return one.ttft_s.point if one.ttft_s else float("inf")


def _weighed(b: BudgetSummary, summary: Summary, needs: ReportNeeds) -> WeighedBudget:
    samples, memory = b.result.samples, b.result.memory
    ttft_s = _spread([sample.ttft_s for sample in samples])
    rates = _spread([1 / step for sample in samples if (step := sample.tpot_s)])
    score, points = _accuracy(b, summary)
    peak = memory.peak_bytes if memory else None
    energy_j = _energy(b)
    answers: dict[str, Met] = {}
    if needs.ttft_s is not None:
        answers["ttft"] = _at_most(ttft_s, needs.ttft_s)
    if needs.tokens_per_s is not None:
        answers["tokens/s"] = _at_least(rates, needs.tokens_per_s)
    if needs.accuracy is not None or needs.score is not None:
        accuracy = summary.report.accuracy
        least = needs.least_points(None if accuracy is None else full_score(accuracy))
        answers["accuracy"] = "unknown" if least is None else _at_least(points, least)
    if needs.memory_bytes is not None:
        answers["memory"] = _at_most(None if peak is None else Interval(peak, peak, peak), needs.memory_bytes)
    if needs.energy_j is not None:
        answers["energy"] = _at_most(energy_j, needs.energy_j)
    return WeighedBudget(b, ttft_s, rates, score, points, peak, energy_j, answers)


def _accuracy(b: BudgetSummary, summary: Summary) -> tuple[float | None, Interval | None]:
    accuracy = summary.report.accuracy
    row = None if accuracy is None else accuracy_of(accuracy, b.result.budget)
    if accuracy is None or row is None:
        return None, None
    score = row.scores[accuracy.headline]
    return score, Interval(0.0, 0.0, 0.0) if b.full else row.differences.get(accuracy.headline)


def _energy(b: BudgetSummary) -> Interval | None:
    """Joules of an answer, with the error of the method where there is one."""
    if b.answer_j is None:
        return None
    window = b.power.get(REQUEST)
    error = (window.error_j if window else None) or 0.0
    return Interval(b.answer_j - error, b.answer_j, b.answer_j + error)


def _with_front(found: Sequence[WeighedBudget]) -> tuple[WeighedBudget, ...]:
    def beaten(one: WeighedBudget) -> bool:
        mine = (_first_s(one), -(one.score or 0.0))
        pairs = [(_first_s(other), -(other.score or 0.0)) for other in known]
        return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in pairs)

    known = [one for one in found if one.score is not None and one.ttft_s is not None]
    return tuple(replace(one, front=one in known and not beaten(one)) for one in found)


def _spread(values: Sequence[float]) -> Interval | None:
    if not values:
        return None
    low, point, high = np.percentile(np.asarray(values, dtype=np.float64), [5, 50, 95])
    return Interval(float(low), float(point), float(high))


def _at_most(found: Interval | None, limit: float) -> Met:
    if found is None:
        return "unknown"
    return "yes" if found.high <= limit else "no" if found.low > limit else "open"


def _at_least(found: Interval | None, limit: float) -> Met:
    if found is None:
        return "unknown"
    return "yes" if found.low >= limit else "no" if found.high < limit else "open"
