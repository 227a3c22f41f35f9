"""What stands behind a schedule: who chose it, who confirmed it, and whether it is better than the uniform one beyond chance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from edgeprune_runtime.statistics import LEAST, PairedDifference, paired_difference


class ScheduleEvidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The table [evidence] of a searched recipe. Prices are shares of the whole model's; costs are means over the pictures that confirm.

    difference  cost of the found schedule minus that of the uniform one at the same price: low end, mean and high end of 95 %
    points      lost against the whole model by what the recipe holds: likewise; of right answers where they are `known`, else of answers
                that stay what they were
    gained      whether the recipe is the schedule that was found; else it is the uniform one
    """

    target: str
    measure: str
    price: float
    cost: str
    by: str
    seed: int
    trials: int
    images: str
    choosing: int
    confirming: int
    found_cost: float
    uniform_cost: float
    difference: tuple[float, float, float]
    points: tuple[float, float, float]
    known: bool
    gained: bool
    said: str
    model: str
    command: str


def least_pictures() -> int:
    """Fewest that a search takes: half of them must be enough to tell anything."""
    return 2 * LEAST


def difference(
    found: Sequence[float], uniform: Sequence[float], pictures: Sequence[Hashable], seed: int
) -> PairedDifference:
    """Of costs, over questions in pictures that chose neither."""
    return paired_difference(found, uniform, seed=seed, clusters=pictures)


def better(gap: PairedDifference) -> bool:
    """Whether the found schedule costs less beyond chance."""
    return gap.distinguishable and gap.high < 0


def verdict(gap: PairedDifference, same: bool) -> str:
    """One sentence about what the recipe is, and why. same: the search ended at the uniform schedule."""
    if same:
        return "nothing that was tried costs less than the uniform schedule: the recipe is the uniform one"
    interval = f"{gap.point:+.3g} [{gap.low:+.3g}, {gap.high:+.3g}] over {gap.clusters} pictures that did not choose it"
    if better(gap):
        return f"the found schedule costs less than the uniform one at the same price: {interval}"
    if gap.distinguishable:
        return f"the found schedule costs more than the uniform one at the same price: {interval}: the recipe is the uniform one"
    return (
        f"no gain can be told from chance: the found schedule's cost differs from the uniform one's by {interval}, which holds 0: the recipe "
        "is the uniform one"
    )
