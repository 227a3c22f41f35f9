"""The share of its roofline that software reaches, from recorded runs, and how well that is known.

An efficiency is the ideal time divided by the measured time without the overhead of launching nodes. Efficiencies are positive
and vary by factors, so they are averaged as logarithms. An estimate takes the nearest runs there are:

1. this model on this board in this mode, this stage and precision: other budgets, the spread of repeated work
2. other models there, this stage and precision: each model counts once
3. this board, in another mode or another stage with the same bound: each model counts once
4. other boards with the same bound: each board counts once, however many runs it has

The interval is that of a prediction, not of the mean: it holds the next run with 95 % if logarithms are normal (Student's t;
the spread of few runs is drawn towards a prior that is worth WEIGHT runs, because two runs that agree prove little).
Above 1 an efficiency is possible where caches hold what was counted as memory traffic; a projected time still never undercuts the
floor of its stage (`roofline.Ideal.floor_s`). Overhead that no figure is known for is in the runs of this model here already; from
anything else it is not learned, and an assumed one comes on top, in the middle too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from edgeprune_profiles.boards.device import board_of, module_of
from edgeprune_profiles.boards.roofline import Bound, Ideal
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.statistics import Interval

THIS_MODEL, THIS_STAGE = "this model here", "other models here"
THIS_BOARD, OTHER_BOARDS = "this board", "other boards"
#: From the surest to the least sure.
BASES = (THIS_MODEL, THIS_STAGE, THIS_BOARD, OTHER_BOARDS)
#: Standard deviation of log efficiency to expect before there is data, by basis.
PRIOR = {THIS_MODEL: 0.1, THIS_STAGE: 0.25, THIS_BOARD: 0.4, OTHER_BOARDS: 0.5}
WEIGHT = 3
#: 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last one for all beyond.
_T = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
    2.12,
    2.11,
    2.10,
    2.09,
    2.09,
    2.0,
)


@dataclass(frozen=True)
class EfficiencySample:
    """One recorded stage of a model on a device; `run` says which run of it."""

    device: str
    model: str
    stage: str
    bound: Bound
    precision: str
    efficiency: float
    run: str


@dataclass(frozen=True)
class Efficiency:
    """Estimate with its 95 % prediction interval; from `n` runs, models or boards, as `basis` says."""

    low: float
    point: float
    high: float
    basis: str
    n: int


def sample(device: str, model: str, found: Ideal, measured_s: float, run: str) -> EfficiencySample:
    """A launch overhead that would leave less than a tenth of the measured time is taken to be overlapped with it."""
    busy = max(measured_s - found.launch_s, measured_s / 10)
    return EfficiencySample(device, model, found.stage, found.bound, found.precision, found.seconds / busy, run)


def estimate(samples: Sequence[EfficiencySample], device: str, model: str, found: Ideal) -> Efficiency:
    """The efficiency to expect of a stage of a model on a board. Raises MeasurementError when there is no run to learn from."""
    wanted = (module_of(device), found.stage, found.precision)
    here = [s for s in samples if (module_of(s.device), s.stage, s.precision) == wanted]
    if own := [math.log(s.efficiency) for s in here if s.model == model]:
        return _efficiency(fmean(own), _variance(own, THIS_MODEL) * (1 + 1 / len(own)), len(own), THIS_MODEL)
    if here:
        return _from_groups(here, lambda s: s.model, THIS_STAGE)
    near = [s for s in samples if (board_of(s.device), s.bound) == (board_of(device), found.bound)]
    if near := [s for s in near if s.precision == found.precision] or near:
        return _from_groups(near, lambda s: s.model, THIS_BOARD)
    if others := [s for s in samples if s.bound == found.bound]:
        return _from_groups(others, lambda s: board_of(s.device), OTHER_BOARDS)
    raise MeasurementError(
        f"nothing recorded tells how efficient a {found.bound}-bound stage is; give runs with --report DEVICE,REPORT.json"
    )


def stage_seconds(found: Ideal, efficiency: Efficiency) -> Interval:
    """Time of a stage; a high efficiency is a low time, and no efficiency makes it less than the floor."""
    learned = efficiency.basis == THIS_MODEL
    least, likely = (0.0, 0.0) if learned else (found.launch_least_s, found.launch_likely_s)
    return Interval(
        max(found.seconds / efficiency.high, found.floor_s) + found.launch_s + least,
        max(found.seconds / efficiency.point, found.floor_s) + found.launch_s + likely,
        max(found.seconds / efficiency.low, found.floor_s) + max(found.launch_most_s, likely),
    )


def _from_groups(
    samples: Sequence[EfficiencySample], group: Callable[[EfficiencySample], str], basis: str
) -> Efficiency:
    """A group not seen yet: its mean varies as those of the groups do, and a run of it as runs do within them."""
    groups: dict[str, list[float]] = {}
    for one in samples:
        groups.setdefault(group(one), []).append(math.log(one.efficiency))
    means = [fmean(logs) for logs in groups.values()]
    squares = sum((x - fmean(logs)) ** 2 for logs in groups.values() for x in logs)
    within = squares / max(len(samples) - len(groups), 1)
    return _efficiency(fmean(means), _variance(means, basis) * (1 + 1 / len(means)) + within, len(means), basis)


def _variance(logs: Sequence[float], basis: str) -> float:
    mean = fmean(logs)
    squares = sum((x - mean) ** 2 for x in logs)
    return (squares + WEIGHT * PRIOR[basis] ** 2) / (len(logs) - 1 + WEIGHT)


def _efficiency(mean: float, variance: float, n: int, basis: str) -> Efficiency:
    reach = _T[min(n - 2 + WEIGHT, len(_T) - 1)] * math.sqrt(variance)
    return Efficiency(math.exp(mean - reach), math.exp(mean), math.exp(mean + reach), basis, n)
