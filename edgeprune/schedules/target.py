"""What a search is to reach: a share of the whole model's work, bytes or seconds, or points of accuracy that may be lost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from edgeprune.errors import PlanError

ScheduleMeasure = Literal["ttft", "latency", "macs", "cache", "accuracy"]
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SECONDS = {"s": 1.0, "ms": 1e-3}
#: Units of what can be given as an amount instead of a share.
_UNITS: dict[str, dict[str, float]] = {"ttft": _SECONDS, "latency": _SECONDS, "cache": dict(_BYTES)}
_HOW = "write macs=0.6, cache=0.4, cache=20MiB, ttft=0.5, ttft=300ms or accuracy=-1; of a classifier macs, latency or accuracy"


@dataclass(frozen=True)
class ScheduleTarget:
    """value: a share of the whole model's (0 to 1) where `share`, else seconds or bytes; of accuracy, points: 0 or below."""

    measure: ScheduleMeasure
    value: float
    share: bool
    text: str

    def limit(self, whole: float) -> float:
        """The most that a schedule may cost, as a share of what the whole model costs."""
        return self.value if self.share else self.value / whole


def schedule_target(text: str) -> ScheduleTarget:
    """Read `macs=0.6`, `ttft=300ms`, `cache=20MiB`, `accuracy=-1`. Raises PlanError for anything else."""
    name, _, value = text.partition("=")
    if name not in get_args(ScheduleMeasure):
        raise PlanError(f"target {text!r} is not known; {_HOW}")
    measure: ScheduleMeasure = name  # type: ignore[assignment]  # one of them, checked above
    found = re.fullmatch(r"(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*([A-Za-z]*)", value)
    units = _UNITS.get(name, {})
    if found is None or (found[2] and found[2] not in units):
        known = f", or a number with {', '.join(units)}" if units else ""
        wanted = "points below the whole model, such as -1" if name == "accuracy" else f"a share such as 0.5{known}"
        raise PlanError(f"target {text!r} is not understood: {name} takes {wanted}")
    number = float(found[1])
    if name == "accuracy":
        if not -100 < number <= 0:
            raise PlanError(
                f"target {text!r} is no loss of points; write accuracy=-1 for one point below the whole model"
            )
        return ScheduleTarget(measure, number, False, text)
    if found[2]:
        if number <= 0:
            raise PlanError(f"target {text!r} is nothing that a model can run in; give more than 0")
        return ScheduleTarget(measure, number * units[found[2]], False, text)
    if not 0 < number < 1 or not math.isfinite(number):
        raise PlanError(
            f"target {text!r} is no share above 0 and below 1 of the whole model; write for example {name}=0.5"
        )
    return ScheduleTarget(measure, number, True, text)
