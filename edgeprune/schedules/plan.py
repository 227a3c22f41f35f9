"""A schedule's shares in whole tokens: which cuts, which budget, as they are written on the command line and in a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeprune.plan import Budget, budget_from_text
from edgeprune.schedules.kept import Kept, PlacePart, SchedulePlace
from edgeprune.tokens.inside.text import inside_text
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune_runtime.spec import InsideSpec

#: Shares of the rows that enter the language model are written with so many digits.
_DIGITS = 4


@dataclass(frozen=True)
class SchedulePlan:
    """inside: cuts, none where nobody leaves; budget: of the tower's output, None for a model without one; by_picture: a share of what each
    picture has, not of the largest one."""

    inside: tuple[InsideSpec, ...] = ()
    budget: Budget | None = None
    by_picture: bool = False

    @property
    def text(self) -> str:
        """As options of `edgeprune export`; two plans with the same text are one."""
        words = [] if self.budget is None else [f"--budget {self.budget.label}"]
        words += ["--budget-of picture"] if self.by_picture else []
        words += [f"--inside {inside_text(one)}" for one in self.inside]
        return " ".join(words) or "--inside none"

    @property
    def whole(self) -> bool:
        """Whether no token leaves anywhere."""
        return not self.inside and (self.budget is None or self.budget.is_full)


@dataclass(frozen=True)
class ScheduleSpace:
    """Where tokens of one model can leave, and by what.

    tower, language  the methods; None where nobody leaves in that part
    tokens      of a tile as the tower's cuts count them; grid: of its patches
    candidates  visual tokens of the largest picture; 0 for a classifier
    """

    places: tuple[SchedulePlace, ...]
    tokens: int
    grid: tuple[int, int]
    candidates: int = 0
    tower: TowerMethod | None = None
    language: str | None = None
    settings: Mapping[PlacePart, Mapping[str, float]] = field(default_factory=dict)

    def plan(self, kept: Kept) -> SchedulePlan:
        """Whole tokens for these shares."""
        at = list(zip(self.places, kept, strict=True))
        inside = []
        if self.tower is not None:
            inside += self._tower([(p.layer, share) for p, share in at if p.part == "tower"], self.tower)
        if not self.candidates:
            return SchedulePlan(tuple(inside))
        output = min([1.0, *(share for place, share in at if place.part == "output")])
        entering = max(2, round(output * self.candidates))
        # Behind a tower that is cut a small picture has less as well: the budget must be a share of its own tokens.
        by_picture = self.tower is not None and entering < self.candidates
        count = f"{entering / self.candidates:.{_DIGITS}f}" if by_picture else str(entering)
        budget = budget_from_text("1.0" if entering >= self.candidates else count)
        if self.language is not None:
            inside += self._language(
                [(p.layer, share) for p, share in at if p.part == "language"], self.language, entering
            )
        return SchedulePlan(tuple(inside), budget, by_picture)

    def _tower(self, at: Sequence[tuple[int, float]], method: TowerMethod) -> list[InsideSpec]:
        arriving, cuts = self.tokens, dict[int, float]()
        for block, share in at:
            count = max(2, round(share * self.tokens))
            if method.reachable is not None and count < arriving:
                count = method.reachable(count, self.grid)
            if count < arriving:
                cuts[block] = float(count)
                arriving = count + method.extra
        return _spec(method.name, cuts, self.settings.get("tower", {}))

    def _language(self, at: Sequence[tuple[int, float]], method: str, entering: int) -> list[InsideSpec]:
        arriving, cuts = entering, dict[int, float]()
        for layer, share in at:
            count = max(1, round(share * self.candidates))
            if count < arriving:
                cuts[layer] = max(round(count / entering, _DIGITS), 10**-_DIGITS)
                arriving = count
        return _spec(method, cuts, self.settings.get("language", {}))


def _spec(method: str, cuts: Mapping[int, float], settings: Mapping[str, float]) -> list[InsideSpec]:
    return [InsideSpec(method, tuple(cuts), tuple(cuts.values()), dict(settings))] if cuts else []
