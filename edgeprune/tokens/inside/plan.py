"""Which method of a token plan works in which part of the model."""

from __future__ import annotations

from typing import NamedTuple

from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.method import InsideMethod, InsidePart
from edgeprune_runtime.spec import InsideSpec, TokenPlan


class PlannedInside(NamedTuple):
    """A method and where and how much it is asked to leave."""

    method: InsideMethod
    spec: InsideSpec


def planned_inside(plan: TokenPlan, part: InsidePart) -> PlannedInside | None:
    """What works inside this part, if anything does."""
    found = [PlannedInside(INSIDE[one.method], one) for one in plan.inside]
    return next((one for one in found if one.method.part == part), None)
