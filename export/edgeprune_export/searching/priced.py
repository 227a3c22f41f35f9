"""Prices of the schedules of one problem, as shares of what the whole model costs; and those that a search starts from."""

from __future__ import annotations

from collections.abc import Callable

from edgeprune.errors import PlanError
from edgeprune.schedules.kept import Kept, dearest, in_part, powered, sigmoid, uniform
from edgeprune.schedules.plan import SchedulePlan
from edgeprune.schedules.target import ScheduleMeasure
from edgeprune_export.searching.problem import SearchProblem, StepTimes

_SHARES = tuple(0.98**i for i in range(1, 300))  # from 0.98 to 0.002: where the least is looked for
_START = 12.0  # slope of the sigmoid that a search may start from


class PricedSchedules:
    """One measure of one problem. Prices are shares of the whole model's."""

    def __init__(self, problem: SearchProblem, measure: ScheduleMeasure, times: StepTimes) -> None:
        self.problem, self.measure, self._times = problem, measure, times
        self.count = len(problem.space.places)
        self.whole = problem.space.plan((1.0,) * self.count)
        whole = problem.price(self.whole, measure, times)
        if whole is None:
            problem.require(self.whole)
        assert whole is not None
        self.absolute = whole
        self._prices: dict[str, float | None] = {}

    def plan(self, kept: Kept) -> SchedulePlan:
        return self.problem.space.plan(kept)

    def price(self, kept: Kept) -> float | None:
        plan = self.plan(kept)
        if plan.text not in self._prices:
            found = self.problem.price(plan, self.measure, self._times)
            self._prices[plan.text] = None if found is None else found / self.absolute
        return self._prices[plan.text]

    def known_prices(self) -> dict[str, float]:
        """Of every plan that can be and was asked for."""
        return {text: price for text, price in self._prices.items() if price is not None}

    def uniform(self, limit: float) -> Kept | None:
        return dearest(lambda share: uniform(self.count, share), self.price, limit)

    def least(self) -> float:
        """The lowest price of a schedule that is uniform over all places or in one part. Raises PlanError where there is none."""
        even = [self.price(uniform(self.count, share)) for share in _SHARES]
        if all(price is None for price in even):
            self.problem.require(self.plan(uniform(self.count, _SHARES[len(_SHARES) // 20])))
            raise PlanError("this model can do no uniform schedule over these places; choose other methods or layers")
        parts = dict.fromkeys(place.part for place in self.problem.space.places)
        shapes: list[Callable[[float], Kept]] = [lambda share: uniform(self.count, share)]
        shapes += [lambda share, part=part: in_part(self.problem.space.places, part, share) for part in parts]  # type: ignore[misc]
        prices = [price for shape in shapes for share in _SHARES if (price := self.price(shape(share))) is not None]
        return min(prices)

    def starts(self, limit: float, *more: Kept | None) -> list[Kept]:
        """The uniform schedule, then those that let tokens leave in one part only, then a sigmoid."""
        places = self.problem.space.places
        parts = dict.fromkeys(place.part for place in places)
        found = [self.uniform(limit), *more]
        found += [
            dearest(lambda share, part=part: in_part(places, part, share), self.price, limit)  # type: ignore[misc]
            for part in parts
            if len(parts) > 1
        ]
        found.append(dearest(lambda at: sigmoid(places, _START, 0.0, 2 * at - 0.5), self.price, limit))
        return [one for one in found if one is not None]

    def shrunk(self, kept: Kept, limit: float) -> Kept | None:
        """The same shape for another price."""
        return dearest(lambda at: powered(kept, 1 / max(at, 1e-3) - 1), self.price, limit)
