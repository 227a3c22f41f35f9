"""What `edgeprune profile` measures, in its order: times and memory, power windows, soak. The report is kept after each part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgeprune_profiles.measure.picture import write_picture
from edgeprune_profiles.measure.power_and_soak import with_power, with_soak
from edgeprune_profiles.measure.runner import ModelRunner, backend_use, budgets_of, with_cache_bytes
from edgeprune_profiles.measure.separate_memory import MemoryRequest, measure_apart
from edgeprune_profiles.measure.stages import Case, NoEnergy, RunProgress, case_of, profile
from edgeprune_profiles.record.profile import Accuracy, BudgetRecord, BundleRef, Report, with_accuracy
from edgeprune_profiles.record.saving import save_report
from edgeprune_profiles.report.busy import busy_signs
from edgeprune_runtime.errors import EdgepruneError, MeasurementError
from edgeprune_runtime.meters import MemoryReading, environment, look, pick, power_sources, use_while_resting
from edgeprune_runtime.meters.boards.nvml import NvmlGpu, open_nvml
from edgeprune_runtime.model import Model

_GPU_ENERGY = "the work runs on a GPU, and the counters that are read around single requests cover the processor only; use --power"
_GPU_MEMORY = "Peak memory is what the process holds of the host's memory; what the GPU allocates is not in it."


@dataclass(frozen=True)
class ProfileOptions:
    """What to measure.

    budgets  of the bundle; none: all it has
    methods  that keep tokens at each of them; none: the bundle's own
    tiles    limits of tiles beside the overview that every budget is measured under too
    inside   what stays at the cuts inside the language model, beside nobody leaving; none: as exported
    images   none: a generated picture
    second   another question about the same picture, asked after each request
    size     (height, width) in pixels of the generated picture; None: one that fills the largest grid
    soak_s   None: no soak
    out      written after each part, so that a later one cannot lose it
    command  as it stands in the report
    """

    budgets: tuple[str, ...]
    methods: tuple[str, ...]
    tiles: tuple[int, ...]
    inside: tuple[str, ...]
    images: tuple[Path, ...]
    size: tuple[int, int] | None
    question: str
    second: str
    runs: int
    warmup: int
    max_tokens: int
    threads: int
    seed: int
    power: bool
    soak_s: float | None
    accuracy: Accuracy | None
    out: Path | None
    command: str


@dataclass(frozen=True)
class Observer:
    """Who is told how far a session is: `progress` of the timed requests, `note` of what begins, `warn` of what stays unknown."""

    progress: RunProgress
    note: Callable[[str], None]
    warn: Callable[[str], None]


def profile_model(model: Model, options: ProfileOptions, scratch: Path, observer: Observer) -> Report:
    """Everything that the options ask for; `scratch` is a folder for a generated picture."""
    if options.images and options.size is not None:
        raise MeasurementError("a size is for the generated picture, and pictures are given; give one of them")
    notes, images = [], list(options.images)
    if not images:
        path, note = write_picture(scratch, model.bundle.manifest.picture, options.size)
        images, notes = [path], [note]
    cases = [case_of(path, options.question) for path in images]
    runner = ModelRunner(model)
    report = _kept(_times(model, options, runner, cases, notes, observer), options)
    if options.accuracy is not None:
        report = _kept(with_accuracy(report, options.accuracy), options)
    return _power_and_soak(report, options, runner, cases[0], observer)


def _times(
    model: Model, options: ProfileOptions, runner: ModelRunner, cases: list[Case], notes: list[str], observer: Observer
) -> Report:
    budgets = budgets_of(model.bundle.manifest, options.budgets, options.tiles, options.methods, options.inside)
    used = backend_use(model)
    on_gpu = used.device == "gpu"
    equal = f"Every answer has {options.max_tokens} tokens for every budget: end tokens were ignored, so that work is equal."

    def apart(budget: BudgetRecord) -> MemoryReading | None:
        request = MemoryRequest(
            str(model.bundle.root), budget.name, str(cases[0].image), options.question, options.max_tokens, options.threads, used.name
        )  # fmt: skip
        try:
            return measure_apart(request)
        except EdgepruneError as error:  # the times are worth keeping without it
            observer.warn(f"memory unknown: {error}")
            return None

    gpu = _gpu() if on_gpu else None
    before = use_while_resting(partial(look, gpu=gpu))
    if signs := [*busy_signs(before, resting=True)]:
        observer.warn(f"the machine is not quiet: {', '.join(signs)}; times will be longer than they could be")
    report = profile(
        runner,
        budgets,
        cases,
        bundle=BundleRef(model.bundle.root.resolve().name, model.bundle.sha256),
        environment=environment(),
        command=options.command,
        repetitions=options.runs,
        warmup_rounds=options.warmup,
        max_tokens=options.max_tokens,
        seed=options.seed,
        energy=NoEnergy(_GPU_ENERGY) if on_gpu else None,
        memory_apart=apart,
        threads=options.threads,
        notes=[equal, *_without_baseline(budgets, model.budgets), *([_GPU_MEMORY] if on_gpu else []), *notes],
        backend=used,
        use_before=before,
        second_question=options.second,
        second=partial(runner.second, options.second),
        look=partial(look, gpu=gpu),
        progress=observer.progress,
    )
    return with_cache_bytes(report, model, runner.positions)


def _gpu() -> NvmlGpu | None:
    """The GPU's own driver, where it answers; a Jetson's GPU is seen in the files of the kernel."""
    try:
        return open_nvml()
    except MeasurementError:
        return None


def _power_and_soak(
    report: Report, options: ProfileOptions, runner: ModelRunner, case: Case, observer: Observer
) -> Report:
    if not options.power and options.soak_s is None:
        return report
    source = pick(power_sources(), "cpu" if report.backend is None else report.backend.device)
    if options.power:
        if source.why_not:
            observer.warn(f"energy unknown: {source.why_not}")
        report = _kept(with_power(report, runner, case, source, progress=observer.note), options)
    if options.soak_s is not None:
        observer.note(f"soak of {options.soak_s:.0f} s, budget {report.budgets[0].budget.name}")
        report = _kept(with_soak(report, runner, case, source, options.soak_s), options)
    return report


def _kept(report: Report, options: ProfileOptions) -> Report:
    if options.out is not None:
        save_report(report, options.out)
    return report


def _without_baseline(budgets: tuple[BudgetRecord, ...], held: tuple[str, ...]) -> list[str]:
    if any(budget.full for budget in budgets):
        return []
    way = "add `--budget 1.0` to the profile" if "1.0" in held else "export the bundle with `--budget 1.0` as well"
    return [f"There is no baseline, so no ratio is given: {way}."]
