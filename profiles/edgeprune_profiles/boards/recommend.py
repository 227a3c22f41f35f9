"""Which boards, at which budgets, meet what is asked.

Every answer is one of four words. `yes` and `no` hold for the whole interval; `open` means that the interval crosses what is asked,
`unknown` that the board has no figure for it. Measured and projected candidates are told apart by `basis` and never merged: a
board with a run at a budget has no projection there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgeprune_profiles.boards.decision.accuracy import AccuracyNeed, BudgetAccuracy, NeedAnswer, accurate_enough
from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.fit import OTHER_BOARDS
from edgeprune_profiles.boards.memory_fit import MemoryFit
from edgeprune_profiles.boards.project import Projection
from edgeprune_profiles.record.profile import BudgetResult
from edgeprune_runtime.statistics import Interval

MEASURED, PROJECTED = "measured", "projected"


@dataclass(frozen=True)
class Needs:
    """What is asked; None where it does not matter. `memory_bytes` is what the application may take, `price_usd` what a board may cost."""

    ttft_s: float | None = None
    tokens_per_s: float | None = None
    power_w: float | None = None
    memory_bytes: int | None = None
    price_usd: float | None = None
    accuracy: AccuracyNeed | None = None

    @property
    def any(self) -> bool:
        return self != Needs()


@dataclass(frozen=True)
class BoardOption:
    """One board in one power mode at one budget. `confidence` says what its times rest on.

    limits    by need, the stage or the part of the memory that takes the most; {} where a run does not say
    method    that chooses the tokens, "" where that is not settled yet
    accuracy  of this budget, None where it was not evaluated
    """

    device: Device
    budget: str
    keep_ratio: float
    basis: str
    confidence: Literal["high", "medium", "low"]
    ttft_s: Interval
    tokens_per_s: Interval | None
    energy_j: Interval | None
    memory: MemoryFit
    limits: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    accuracy: BudgetAccuracy | None = None


@dataclass(frozen=True)
class BoardChoice:
    """A candidate with an answer to each need, and to all of them."""

    candidate: BoardOption
    answers: dict[str, NeedAnswer]
    on_front: bool

    @property
    def meets(self) -> NeedAnswer:
        found = set(self.answers.values())
        return next((word for word in _WORST_FIRST if word in found), "yes")


_WORST_FIRST: tuple[NeedAnswer, ...] = ("no", "unknown", "open", "yes")
_BEST_FIRST: tuple[NeedAnswer, ...] = ("yes", "open", "unknown", "no")


def projected(projection: Projection) -> BoardOption:
    return BoardOption(
        device=projection.device,
        budget=projection.shape.budget,
        keep_ratio=projection.shape.keep_ratio,
        basis=PROJECTED,
        confidence="low" if projection.basis == OTHER_BOARDS else "medium",
        ttft_s=projection.ttft_s,
        tokens_per_s=projection.tokens_per_s,
        energy_j=projection.energy_j,
        memory=projection.memory,
        limits=projection.limits,
        method=projection.shape.method,
    )


def measured(device: Device, result: BudgetResult, memory: MemoryFit) -> BoardOption:
    """A recorded budget: the median, from the 5th to the 95th percentile of its requests."""
    first = [sample.ttft_s for sample in result.samples]
    steps = [step for sample in result.samples if (step := sample.tpot_s) is not None]
    joules = [sample.energy_j for sample in result.samples if sample.energy_j is not None]
    return BoardOption(
        device=device,
        budget=result.budget.name,
        keep_ratio=result.budget.keep_ratio,
        basis=MEASURED,
        confidence="high",
        ttft_s=_spread(first),
        tokens_per_s=_spread([1 / step for step in steps]) if steps else None,
        energy_j=_spread(joules) if joules else None,
        memory=memory,
        limits={"fits": memory.largest},
        method=result.budget.method,
    )


def recommend(candidates: Sequence[BoardOption], needs: Needs) -> tuple[BoardChoice, ...]:
    """All candidates, best first: those that meet everything, then the open ones; cheaper and larger budgets before others."""
    known = {(c.device.name, c.budget) for c in candidates if c.basis == MEASURED}
    kept = [c for c in candidates if c.basis == MEASURED or (c.device.name, c.budget) not in known]
    front = pareto_front(kept)
    choices = [BoardChoice(c, answers(c, needs), c in front) for c in kept]
    return tuple(sorted(choices, key=_order))


def answers(candidate: BoardOption, needs: Needs) -> dict[str, NeedAnswer]:
    """An answer to each thing that is asked; memory is always asked, because what does not fit does not run."""
    device, found = candidate.device, {"fits": _fits(candidate.memory, needs.memory_bytes)}
    if needs.ttft_s is not None:
        found["ttft"] = _at_most(candidate.ttft_s, needs.ttft_s)
    if needs.tokens_per_s is not None:
        found["tokens/s"] = _at_least(candidate.tokens_per_s, needs.tokens_per_s)
    if needs.power_w is not None:
        found["power"] = _figure_at_most(device.power_w, needs.power_w)
    if needs.price_usd is not None:
        found["price"] = _figure_at_most(device.price_usd, needs.price_usd)
    if needs.accuracy is not None:
        found["accuracy"] = accurate_enough(candidate.accuracy, needs.accuracy)
    return found


def pareto_front(candidates: Sequence[BoardOption]) -> tuple[BoardOption, ...]:
    """Those that no other one beats: sooner, cheaper, less power, more tokens kept; an unknown figure beats nothing.

    What does not fit its board is not on it.
    """
    runnable = [c for c in candidates if c.memory.verdict != "does not fit"]
    return tuple(c for c in runnable if not any(_beats(other, c) for other in runnable))


def largest_budget(meets: Callable[[int], bool], most: int) -> int | None:
    """The largest token count from 1 to `most` that meets a target which fewer tokens meet more easily; None if not even 1 does."""
    if not meets(1):
        return None
    low, high = 1, most + 1  # low meets, high does not or is too large
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if meets(middle) else (low, middle)
    return low


def _beats(one: BoardOption, other: BoardOption) -> bool:
    pairs = (
        (one.ttft_s.point, other.ttft_s.point),
        (_or_inf(one.device.price_usd), _or_inf(other.device.price_usd)),
        (_or_inf(one.device.power_w), _or_inf(other.device.power_w)),
        (-one.keep_ratio, -other.keep_ratio),
    )
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _order(choice: BoardChoice) -> tuple[int, float, float, float]:
    one = choice.candidate
    return (_BEST_FIRST.index(choice.meets), _or_inf(one.device.price_usd), -one.keep_ratio, one.ttft_s.point)


def _fits(memory: MemoryFit, limit_bytes: int | None) -> NeedAnswer:
    if limit_bytes is not None and memory.application_bytes > limit_bytes:
        return "no"
    words: dict[str, NeedAnswer] = {"fits": "yes", "tight": "open", "does not fit": "no", "unknown": "unknown"}
    return words[memory.verdict]


def _at_most(found: Interval, limit: float) -> NeedAnswer:
    return "yes" if found.high <= limit else "no" if found.low > limit else "open"


def _at_least(found: Interval | None, limit: float) -> NeedAnswer:
    if found is None:
        return "unknown"
    return "yes" if found.low >= limit else "no" if found.high < limit else "open"


def _figure_at_most(value: float | None, limit: float) -> NeedAnswer:
    return "unknown" if value is None else "yes" if value <= limit else "no"


def _spread(values: Sequence[float]) -> Interval:
    low, point, high = np.percentile(np.asarray(values), [5, 50, 95])
    return Interval(float(low), float(point), float(high))


def _or_inf(value: float | None) -> float:
    return float("inf") if value is None else value
