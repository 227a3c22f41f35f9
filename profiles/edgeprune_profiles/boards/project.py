"""How long a request would take on a board: each stage's roofline, divided by the efficiency to expect, with its interval.

    time = max(operations / peak, bytes / bandwidth) / efficiency + nodes x launch overhead

The first token comes after preprocessing, tower, select and prefill. Preprocessing runs on the host's processor, for which no
board has a figure: it is taken from runs on the same board, and left out, with a note, where there are none.
Energy is at most the watts of the power mode for the whole time: boards seldom reach their limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.fit import BASES, Efficiency, EfficiencySample, estimate, stage_seconds
from edgeprune_profiles.boards.memory_fit import MemoryFit
from edgeprune_profiles.boards.model import ProjectedModel
from edgeprune_profiles.boards.roofline import LEAST_LAUNCH_S, LIKELY_LAUNCH_S, UNKNOWN_LAUNCH_S, Bound, ideal
from edgeprune_profiles.measure.work import RequestShape, request_stages
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.spec import GraphWork
from edgeprune_runtime.statistics import Interval

#: A Jetson has the TensorRT of its JetPack and no other; this one came with JetPack 6.1.
OLDEST_TENSORRT = (10, 3)
#: Preprocessing recorded on the same board is expected again within this factor.
PREPROCESS_FACTOR = 1.3


@dataclass(frozen=True)
class ProjectionTarget:
    """Where a bundle would run. `precision`: what floats are computed in there; None: as they are stored."""

    device: Device
    precision: str | None


@dataclass(frozen=True)
class StageProjection:
    stage: str
    bound: Bound
    time_s: Interval
    efficiency: Efficiency


@dataclass(frozen=True)
class Projection:
    """One budget on one board. `energy_j` of a whole answer, an upper bound; None without a power figure."""

    device: Device
    precision: str | None
    shape: RequestShape
    stages: tuple[StageProjection, ...]
    preprocess_s: float | None
    ttft_s: Interval
    tokens_per_s: Interval
    energy_j: Interval | None
    memory: MemoryFit
    notes: tuple[str, ...]

    @property
    def basis(self) -> str:
        """What the least certain stage rests on."""
        return max((stage.efficiency.basis for stage in self.stages), key=BASES.index)

    @property
    def limits(self) -> Mapping[str, str]:
        """Which stage or part of the memory each need is limited by, see `limiting_stage`."""
        return {
            "ttft": limiting_stage(self.stages[:-1]),
            "tokens/s": self.stages[-1].stage,
            "fits": self.memory.largest,
        }


def target(device: Device, stored: str, precision: str | None = None) -> ProjectionTarget:
    """`stored` is the bundle's precision. GPUs compute floats in half precision unless asked otherwise, processors what is stored."""
    if device.kind == "cpu":
        if precision is not None:
            raise MeasurementError(
                f"{device.name} computes what the bundle stores, got --compute {precision}; leave it out, or export with other --weights"
            )
        return ProjectionTarget(device, None)
    if stored != "fp32":
        raise MeasurementError(
            f"{device.name} cannot run this bundle: its {stored} weights are for processors; project the fp32 bundle there"
        )
    found = device.software.tensorrt
    if device.kind == "jetson" and found is not None and _version(found.value) < OLDEST_TENSORRT:
        raise MeasurementError(
            f"{device.name} cannot be projected: its TensorRT {found.value} is older than "
            f"{'.'.join(map(str, OLDEST_TENSORRT))}, the oldest that engines are built for; choose another board"
        )
    return ProjectionTarget(device, precision or "fp16")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def project(
    model: ProjectedModel,
    shape: RequestShape,
    where: ProjectionTarget,
    samples: Sequence[EfficiencySample],
    preprocess_s: float | None = None,
) -> Projection:
    """Raises MeasurementError naming the figure that is not known of the board, or the runs that are missing."""
    device = where.device
    stages = project_stages(model.name, model.chunk, model.work(shape), shape, where, samples)
    ttft, step = first_token_s(stages, preprocess_s), stages[-1].time_s
    return Projection(
        device=device,
        precision=where.precision,
        shape=shape,
        stages=stages,
        preprocess_s=preprocess_s,
        ttft_s=ttft,
        tokens_per_s=rate(step),
        energy_j=_energy(device, ttft, step, shape.answer),
        memory=model.memory(shape, device, where.precision),
        notes=_notes(device, preprocess_s),
    )


def project_stages(
    model: str,
    chunk: int,
    graphs: Mapping[str, GraphWork],
    shape: RequestShape,
    where: ProjectionTarget,
    samples: Sequence[EfficiencySample],
) -> tuple[StageProjection, ...]:
    """Every stage of a request to a model, decode last; `chunk` is the number of positions per run of the prefill graph."""
    stages = []
    for stage in request_stages(chunk, graphs, shape, where.precision):
        found = ideal(where.device, stage)
        share = estimate(samples, where.device.name, model, found)
        stages.append(StageProjection(stage.name, found.bound, stage_seconds(found, share), share))
    return tuple(stages)


def first_token_s(stages: Sequence[StageProjection], preprocess_s: float | None = None) -> Interval:
    """All stages but the last, decode, and preprocessing where it is known."""
    total = _preprocess(preprocess_s)
    for each in stages[:-1]:
        total = total + each.time_s
    return total


def limiting_stage(stages: Sequence[StageProjection]) -> str:
    """The one that takes the longest."""
    return max(stages, key=lambda each: each.time_s.point).stage


def rate(step_s: Interval) -> Interval:
    """Steps per second."""
    return Interval(1 / step_s.high, 1 / step_s.point, 1 / step_s.low)


def _preprocess(seconds: float | None) -> Interval:
    if seconds is None:
        return Interval(0.0, 0.0, 0.0)
    return Interval(seconds / PREPROCESS_FACTOR, seconds, seconds * PREPROCESS_FACTOR)


def _energy(device: Device, ttft: Interval, step: Interval, answer: int) -> Interval | None:
    watts = device.power_w
    if watts is None:
        return None
    times = ((one + (answer - 1) * each) * watts for one, each in zip(_ends(ttft), _ends(step), strict=True))
    low, point, high = times
    return Interval(low, point, high)


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.low, interval.point, interval.high


def _notes(device: Device, preprocess_s: float | None) -> tuple[str, ...]:
    notes = []
    if preprocess_s is None:
        notes.append("preprocessing on the host is not in the time: no --report of this board is given")
    if device.launch_s is None:
        notes.append(
            f"the overhead of launching a node is unknown there: {LIKELY_LAUNCH_S * 1e6:g} µs each are assumed "
            f"({LEAST_LAUNCH_S * 1e6:g} to {UNKNOWN_LAUNCH_S * 1e6:g} µs)"
        )
    return (*notes, *device.notes)
