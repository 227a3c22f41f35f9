"""The search itself: from a target to the schedule that the pictures which did not choose it confirm, or the uniform one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from edgeprune.errors import PlanError
from edgeprune.schedules.bayes import bayes
from edgeprune.schedules.evidence import better, difference, verdict
from edgeprune.schedules.families import sigmoids
from edgeprune.schedules.greedy import greedy
from edgeprune.schedules.kept import Kept
from edgeprune.schedules.plan import SchedulePlan
from edgeprune.schedules.target import ScheduleMeasure, ScheduleTarget
from edgeprune.schedules.trials import Trials
from edgeprune_export.searching.judge import PlanJudge
from edgeprune_export.searching.priced import PricedSchedules
from edgeprune_export.searching.problem import SearchProblem, StepTimes
from edgeprune_runtime.statistics import PairedDifference, paired_difference

SearchWay = Literal["greedy", "sigmoid", "bayes"]
PointKind = Literal["whole", "uniform", "found", "tried"]
_LADDER = (0.7, 0.85, 1.2, 1.45)  # other prices at which both shapes are drawn, as factors of the target's
_HALVINGS = 5  # of the price, for a target of accuracy
_DOWN, _ROUNDS = 0.92, 6  # factor between prices that are then tried below it, and how many


@dataclass(frozen=True)
class SearchRequest:
    """trials: different schedules that are judged on the half that chooses, at the target's price."""

    target: ScheduleTarget
    by: SearchWay = "greedy"
    seed: int = 0
    trials: int = 60


class FrontSchedule(NamedTuple):
    """A judged schedule: price as a share of the whole model's, mean cost on the half that chooses."""

    plan: str
    price: float
    cost: float
    kind: PointKind


@dataclass(frozen=True)
class SearchOutcome:
    """plan: what the recipe holds; found, uniform: of the same price; difference of their costs, and points that the plan loses, both on
    the half that confirms."""

    plan: SchedulePlan
    found: SchedulePlan
    uniform: SchedulePlan
    measure: ScheduleMeasure
    price: float
    uniform_price: float
    found_costs: tuple[float, float]
    uniform_costs: tuple[float, float]
    difference: PairedDifference
    points: PairedDifference
    gained: bool
    said: str
    trials: int
    front: tuple[FrontSchedule, ...]


def require_reachable(problem: SearchProblem, target: ScheduleTarget, times: StepTimes) -> None:
    """Raise PlanError, with the least that can be reached, for a target below it; and for what the whole model is within already."""
    measure = measure_of(target)
    search = PricedSchedules(problem, measure, times)
    least = search.least()
    if target.measure == "accuracy":
        return
    limit = target.limit(search.absolute)
    if limit < least:
        amount = "" if target.share else f", which is {in_units(measure, least * search.absolute)}"
        raise PlanError(
            f"target {target.text} cannot be reached: the least that these methods come to at these places is {measure}={least:.3f} of the "
            f"whole model{amount}"
        )
    if search.uniform(limit) is None:
        raise PlanError(
            f"target {target.text} cannot be reached by the uniform schedule over these places, which a search starts from; give a higher "
            "one, or name fewer layers, as in --inside METHOD@LAYERS"
        )
    if limit >= 1:
        raise PlanError(
            f"target {target.text} is met by the whole model, which takes {in_units(measure, search.absolute)}; ask for less"
        )


def search(request: SearchRequest, problem: SearchProblem, judge: PlanJudge, times: StepTimes) -> SearchOutcome:
    """Raises PlanError where the target cannot be met."""
    base = PricedSchedules(problem, measure_of(request.target), times)
    best: Kept | None
    if request.target.measure == "accuracy":
        limit, settled, best, judged = _by_accuracy(request, base, judge)
    else:
        limit = request.target.limit(base.absolute)
        trials = _tried(base, request, limit, request.trials, judge)
        best, judged = trials.best, len(trials.judged)
        settled = None
    even = base.uniform(limit)
    assert even is not None and best is not None  # `require_reachable` has seen it
    return _confirmed(request, base, judge, best, even, settled or even, judged, limit)


def _tried(
    base: PricedSchedules, request: SearchRequest, limit: float, most: int, judge: PlanJudge, *more: Kept | None
) -> Trials:
    """Search at one price."""
    trials = Trials(
        base.price, lambda kept: judge.costs(base.plan(kept)), lambda kept: base.plan(kept).text, limit, most
    )
    starts = base.starts(limit, *more)
    if request.by == "greedy":
        greedy(starts, trials, request.seed)
    elif request.by == "sigmoid":
        sigmoids(starts, base.problem.space.places, trials)
    else:
        bayes(starts, trials, request.seed)
    return trials


def _by_accuracy(request: SearchRequest, base: PricedSchedules, judge: PlanJudge) -> tuple[float, Kept, Kept, int]:
    """(price, uniform schedule that meets the target, found one, schedules judged): prices fall while the half that chooses allows it."""

    def meets(kept: Kept) -> bool:
        return judge.points(base.plan(kept), base.whole) >= request.target.value

    low, high, settled = base.least(), 1.0, None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        even = base.uniform(middle)
        if even is not None and meets(even):
            high, settled = middle, even
        else:
            low = middle
    if settled is None:
        raise PlanError(
            f"target {request.target.text} cannot be met: the uniform schedule at macs={high:.3f} loses more on the pictures that choose; "
            "allow more points, or choose other methods"
        )
    limit, judged = high, 0
    best: Kept = settled
    most = max(4, request.trials // _ROUNDS)
    for round_number in range(_ROUNDS):
        price = high * _DOWN**round_number
        trials = _tried(base, request, price, most, judge, best if round_number == 0 else base.shrunk(best, price))
        judged += len(trials.judged)
        if trials.best is None or not meets(trials.best):
            break
        limit, best = price, trials.best
    return limit, settled, best, judged


def _confirmed(
    request: SearchRequest,
    base: PricedSchedules,
    judge: PlanJudge,
    best: Kept,
    even: Kept,
    settled: Kept,
    judged: int,
    limit: float,
) -> SearchOutcome:
    """settled: what the recipe is where no gain is confirmed."""
    found, level = base.plan(best), base.plan(even)
    same = found.text == level.text
    sides = [[one.cost for one in judge(plan, "confirm")] for plan in (found, level)]
    gap = difference(sides[0], sides[1], judge.pictures("confirm"), request.seed)
    gained = not same and better(gap)
    kept = best if gained else settled
    plan = base.plan(kept)
    right = [[100 * one.right for one in judge(one_plan, "confirm")] for one_plan in (plan, base.whole)]
    points = paired_difference(right[0], right[1], seed=request.seed, clusters=judge.pictures("confirm"))
    price, level_price = base.price(kept), base.price(even)
    assert price is not None and level_price is not None
    said = verdict(gap, same)
    if request.target.measure == "accuracy" and points.point < request.target.value:
        said += f"; on the pictures that confirm it loses {-points.point:.1f} points, more than was asked: give more pictures or ask for less"
    return SearchOutcome(
        plan=plan,
        found=found,
        uniform=level,
        measure=base.measure,
        price=price,
        uniform_price=level_price,
        found_costs=(judge.cost(found), sum(sides[0]) / len(sides[0])),
        uniform_costs=(judge.cost(level), sum(sides[1]) / len(sides[1])),
        difference=gap,
        points=points,
        gained=gained,
        said=said,
        trials=judged,
        front=_front(base, judge, best, even, limit),
    )


def _front(base: PricedSchedules, judge: PlanJudge, best: Kept, even: Kept, limit: float) -> tuple[FrontSchedule, ...]:
    """Everything that was judged, and both shapes at other prices."""
    kinds: dict[str, PointKind] = {base.whole.text: "whole"}
    plans: dict[str, Kept] = {base.whole.text: (1.0,) * base.count}
    for factor in (1.0, *_LADDER):
        price = limit * factor
        if price >= 1:
            continue
        level, shaped = (even, best) if factor == 1 else (base.uniform(price), base.shrunk(best, price))
        for kind, kept in (("uniform", level), ("found", shaped)):
            if kept is not None:
                kinds.setdefault(base.plan(kept).text, kind)  # type: ignore[arg-type]
                plans.setdefault(base.plan(kept).text, kept)
    points = []
    for text, kept in plans.items():
        price_of = base.price(kept)
        assert price_of is not None
        points.append(FrontSchedule(text, price_of, judge.cost(base.plan(kept)), kinds[text]))
    tried = [line for line in judge.journal.lines if line.half == "choose" and line.plan not in plans]
    known = base.known_prices()
    points += [
        FrontSchedule(line.plan, known[line.plan], sum(line.cost) / len(line.cost), "tried")
        for line in tried
        if line.plan in known
    ]
    return tuple(sorted(points, key=lambda one: one.price))


def measure_of(target: ScheduleTarget) -> ScheduleMeasure:
    """What is counted: for a target of accuracy the MACs."""
    return "macs" if target.measure == "accuracy" else target.measure


def in_units(measure: ScheduleMeasure, value: float) -> str:
    """A price with its unit."""
    if measure == "macs":
        return f"{value / 1e9:.3g} GMACs"
    return f"{value / 2**20:.3g} MiB" if measure == "cache" else f"{value * 1e3:.3g} ms"
