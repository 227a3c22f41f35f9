"""What all ways of searching share: schedules are judged one after the other, and each different one counts once against the budget."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeprune.schedules.kept import Kept, PriceOf


@dataclass
class Trials:
    """price, costs: of a schedule, costs one for each sample; plan: what it comes to in whole tokens, by which two are told apart; limit:
    price that none may exceed; most: different ones that may be judged.

    judged     every plan that was judged, with its mean cost
    best       the one to beat: another takes its place where it costs less by more than the standard error of the difference, since the
               least of many noisy means is low by chance
    """

    price: PriceOf
    costs: Callable[[Kept], Sequence[float]]
    plan: Callable[[Kept], Hashable]
    limit: float
    most: int
    judged: dict[Hashable, float] = field(default_factory=dict)
    best: Kept | None = None
    best_costs: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def over(self) -> bool:
        return len(self.judged) >= self.most

    def new(self, kept: Kept | None) -> bool:
        """Whether it is within the price and was not judged yet."""
        if kept is None:
            return False
        price = self.price(kept)
        return price is not None and price <= self.limit and self.plan(kept) not in self.judged

    def judge(self, kept: Kept) -> float:
        """Its mean cost."""
        key = self.plan(kept)
        if key not in self.judged:
            costs = np.asarray(self.costs(kept), np.float64)
            self.judged[key] = float(costs.mean())
            if self.best is None or self._less(costs):
                self.best, self.best_costs = kept, costs
        return self.judged[key]

    def _less(self, costs: np.ndarray) -> bool:
        gap = self.best_costs - costs
        error = float(gap.std(ddof=1)) / len(gap) ** 0.5 if len(gap) > 1 else 0.0
        return float(gap.mean()) > error
