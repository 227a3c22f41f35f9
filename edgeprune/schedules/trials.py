"""What all ways of searching share: schedules are judged one after the other, and each different one counts once against the budget."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from edgeprune.schedules.kept import Kept, PriceOf


@dataclass
class Trials:
    """price, cost: of a schedule; plan: what it comes to in whole tokens, by which two are told apart; limit: price that none may exceed;
    most: different ones that may be judged.

    judged  every plan that was judged, with its cost
    """

    price: PriceOf
    cost: Callable[[Kept], float]
    plan: Callable[[Kept], Hashable]
    limit: float
    most: int
    judged: dict[Hashable, float] = field(default_factory=dict)
    best: Kept | None = None
    best_cost: float = float("inf")

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
        """Its cost; the cheapest so far is remembered, and of equal ones the first."""
        key = self.plan(kept)
        if key not in self.judged:
            self.judged[key] = self.cost(kept)
        if self.judged[key] < self.best_cost:
            self.best, self.best_cost = kept, self.judged[key]
        return self.judged[key]
