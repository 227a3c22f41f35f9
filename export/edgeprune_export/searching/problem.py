"""What a search needs of a model: its places, prices of plans, and how far answers move under one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from edgeprune.schedules.plan import SchedulePlan, ScheduleSpace
from edgeprune.schedules.target import ScheduleMeasure
from edgeprune_export.bundle.progress import Track

#: "kl": divergence from the whole model, without labels; "answers": what is lost of the log probability of the right answer.
CostKind = Literal["kl", "answers"]
#: Seconds of one block or layer by part and rows, such as "tower:197", as they were measured once.
StepTimes = Mapping[str, float]


class JudgedSample(NamedTuple):
    """One sample under one plan. cost: as the search minimises it; right: 1 where the answer is the right one, or the whole model's."""

    cost: float
    right: float


class SearchProblem(Protocol):
    """A model and its calibration samples.

    measures  prices that it has
    pictures  which picture each sample is about
    known     whether right answers are, of all samples
    """

    space: ScheduleSpace
    measures: tuple[ScheduleMeasure, ...]
    pictures: tuple[str, ...]
    known: bool

    def times(self, track: Track) -> StepTimes:
        """Measure blocks on this machine."""
        ...

    def price(self, plan: SchedulePlan, measure: ScheduleMeasure, times: StepTimes) -> float | None:
        """MACs, bytes or seconds; None for what this model cannot do."""
        ...

    def require(self, plan: SchedulePlan) -> None:
        """Raise PlanError where this model cannot do it."""
        ...

    def load(self) -> None:
        """Read the weights."""
        ...

    def judge(self, plan: SchedulePlan, samples: Sequence[int]) -> list[JudgedSample]:
        """One entry for each of the samples, by their numbers."""
        ...


def divergence(whole: np.ndarray, found: np.ndarray) -> float:
    """Mean over rows of KL(whole || found), natural logarithm. Logits [n, V]."""
    p, q = log_softmax(whole), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def at_rows(times: StepTimes, part: str, rows: float) -> float:
    """Seconds at so many rows, between those that were measured along a straight line; more rows never take less."""
    known = sorted((int(name.partition(":")[2]), value) for name, value in times.items() if name.startswith(f"{part}:"))
    counts = [0.0, *(float(count) for count, _ in known)]
    seconds = np.maximum.accumulate([0.0, *(value for _, value in known)])
    return float(np.interp(rows, counts, seconds))
