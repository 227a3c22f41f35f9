"""Plans judged over halves of the pictures, each kept in a journal as soon as it is known: a search that was killed asks no plan twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from edgeprune.schedules.plan import SchedulePlan
from edgeprune_export.bundle.progress import Advance, Track
from edgeprune_export.searching.problem import JudgedSample, SearchProblem, StepTimes
from edgeprune_runtime.files import Journal

Half = Literal["choose", "confirm"]


class SearchLine(msgspec.Struct, frozen=True):
    """A plan over one half, or the seconds of this machine's blocks."""

    plan: str = ""
    half: str = ""
    cost: list[float] = []
    right: list[float] = []
    times: dict[str, float] | None = None


class PictureHalves(NamedTuple):
    """Numbers of samples: those that choose, and those that confirm."""

    choose: tuple[int, ...]
    confirm: tuple[int, ...]


def halves(pictures: Sequence[str], seed: int) -> PictureHalves:
    """All questions about a picture are on one side; which, is drawn."""
    names = list(dict.fromkeys(pictures))
    order = np.random.default_rng(seed).permutation(len(names))
    first = {names[i] for i in order[: len(names) // 2].tolist()}
    numbers = range(len(pictures))
    return PictureHalves(
        tuple(n for n in numbers if pictures[n] in first), tuple(n for n in numbers if pictures[n] not in first)
    )


@dataclass
class PlanJudge:
    """advance: called after every plan that was judged now."""

    problem: SearchProblem
    halves: PictureHalves
    journal: Journal[SearchLine]
    advance: Advance = lambda: None

    def __post_init__(self) -> None:
        self._known = {(line.plan, line.half): line for line in self.journal.lines if line.times is None}
        self._loaded = False

    def __call__(self, plan: SchedulePlan, half: Half = "choose") -> list[JudgedSample]:
        key = plan.text, half
        if key not in self._known:
            if not self._loaded:
                self.problem.load()
                self._loaded = True
            found = self.problem.judge(plan, getattr(self.halves, half))
            line = SearchLine(plan.text, half, [one.cost for one in found], [one.right for one in found])
            self.journal.add(line)
            self._known[key] = line
            self.advance()
        line = self._known[key]
        return [JudgedSample(cost, right) for cost, right in zip(line.cost, line.right, strict=True)]

    def costs(self, plan: SchedulePlan) -> list[float]:
        """Of every sample of the half that chooses."""
        return [one.cost for one in self(plan)]

    def cost(self, plan: SchedulePlan) -> float:
        """Their mean."""
        return float(np.mean(self.costs(plan)))

    def points(self, plan: SchedulePlan, whole: SchedulePlan) -> float:
        """Lost against the whole model by the half that chooses; 0 or below where any are lost."""
        return 100 * float(np.mean([one.right for one in self(plan)]) - np.mean([one.right for one in self(whole)]))

    def pictures(self, half: Half) -> list[str]:
        """Which picture each sample of a half is about."""
        return [self.problem.pictures[number] for number in getattr(self.halves, half)]

    def times(self, track: Track) -> StepTimes:
        """Measured once: a search that goes on goes by the same seconds."""
        found = next((line.times for line in self.journal.lines if line.times is not None), None)
        if found is None:
            found = dict(self.problem.times(track))
            self.journal.add(SearchLine(times=found))
        return found
