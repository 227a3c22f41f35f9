"""Recorded runs as samples to learn efficiencies from: reports of `edgeprune profile` and the board they were made on.

Medians of each stage over all requests. On a processor with one thread it is processor time, which equals the clock on an idle
machine and is hardly disturbed by other programs on a busy one; else the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from edgeprune_profiles.boards.backtest import Trial
from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.fit import EfficiencySample, sample
from edgeprune_profiles.boards.project import ProjectionTarget, first_token_s, project_stages
from edgeprune_profiles.boards.roofline import ideal
from edgeprune_profiles.measure.work import RequestShape, request_shape, request_stages
from edgeprune_profiles.record.profile import DECODE, BudgetResult, Report
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import MeasurementError

PREPROCESS = "preprocess"


def run_shape(bundle: Bundle, report: Report, result: BudgetResult, size: tuple[int, int] | None) -> RequestShape:
    """The request that a report recorded. Raises MeasurementError where pictures of `size` would give other visual tokens."""
    question = (report.question or "").split(" / ")[0]
    shape = request_shape(bundle, result.budget.name, question, report.max_tokens, size)
    seen = {sample.visual_tokens for sample in result.samples}
    if seen - {shape.visual}:
        raise MeasurementError(
            f"the run at budget {result.budget.name} kept {', '.join(map(str, sorted(seen)))} visual tokens, a picture of the given size "
            f"has {shape.visual}; say with --size how large its pictures were"
        )
    return shape


def stage_medians(report: Report, result: BudgetResult, device: Device) -> dict[str, float]:
    """Seconds of each stage, of `decode` per token."""
    processor = device.kind == "cpu" and report.threads == 1
    found: dict[str, list[float]] = {}
    for one in result.samples:
        for stage, times in (one.cpu_s if processor else one.wall_s).items():
            if times:
                found.setdefault(stage, []).append(fmean(times) if stage == DECODE else sum(times))
    return {stage: median(values) for stage, values in found.items()}


def run_samples(
    bundle: Bundle,
    report: Report,
    where: ProjectionTarget,
    size: tuple[int, int] | None = None,
) -> tuple[EfficiencySample, ...]:
    """One sample for each stage and budget. Raises MeasurementError when the report is of another bundle."""
    if report.bundle.sha256 != bundle.sha256:
        raise MeasurementError(
            f"the run is of the bundle {report.bundle.sha256[:12]} ({report.bundle.name}), this one is {bundle.sha256[:12]}; "
            "name the bundle it was made with as --report DEVICE,REPORT.json,BUNDLE"
        )
    samples = []
    for result in report.budgets:
        shape = run_shape(bundle, report, result, size)
        measured = stage_medians(report, result, where.device)
        for stage in request_stages(bundle.manifest.language.chunk, bundle.manifest.work, shape, where.precision):
            if seconds := measured.get(stage.name):
                found = ideal(where.device, stage)
                samples.append(sample(where.device.name, bundle.manifest.name, found, seconds, result.budget.name))
    return tuple(samples)


def own_trials(
    bundle: Bundle,
    report: Report,
    where: ProjectionTarget,
    learn: Callable[[str], Sequence[EfficiencySample]],
    size: tuple[int, int] | None = None,
) -> tuple[Trial, ...]:
    """Each budget of a report projected from the samples that `learn` gives for it: up to the first token, and per further token.

    Preprocessing is in neither side, because no graph says how long it takes.
    """
    trials, model = [], bundle.manifest.name
    for result in report.budgets:
        name = result.budget.name
        shape = run_shape(bundle, report, result, size)
        stages = project_stages(model, bundle.manifest.language.chunk, bundle.manifest.work, shape, where, learn(name))
        measured = stage_medians(report, result, where.device)
        first = sum(measured[stage.stage] for stage in stages[:-1])
        label = f"{model}, {bundle.manifest.precision}, {name}"
        trials.append(Trial(name, label, "first token", stages[0].bound, first_token_s(stages), first))
        if DECODE in measured:
            trials.append(Trial(name, label, "per token", stages[-1].bound, stages[-1].time_s, measured[DECODE]))
    return tuple(trials)


def run_preprocess_s(report: Report, device: Device) -> float:
    """Median seconds of preprocessing over all budgets, which it does not depend on."""
    return median(stage_medians(report, result, device)[PREPROCESS] for result in report.budgets)
