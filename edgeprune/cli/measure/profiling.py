"""What `edgeprune profile` measures, in its order: times and memory, power windows, soak. The report is kept after each part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.cli.console import command_line, err, track
from edgeprune.cli.open_bundle import open_model

if TYPE_CHECKING:
    from edgeprune_profiles import BudgetRecord, Report
    from edgeprune_profiles.measure.runner import ModelRunner
    from edgeprune_profiles.measure.stages import Case
    from edgeprune_profiles.record.profile import Accuracy
    from edgeprune_runtime import Model
    from edgeprune_runtime.meters import MemoryReading

_GPU_ENERGY = "the work runs on a GPU, and the counters that are read around single requests cover the processor only; use --power"
_GPU_MEMORY = "Peak memory is what the process holds of the host's memory; what the GPU allocates is not in it."


@dataclass(frozen=True)
class ProfileOptions:
    """What to measure; `soak_s` None: no soak. `out` is written after each part, so that a later one cannot lose it."""

    bundle: Path
    chosen: list[str]
    images: list[Path]
    question: str
    runs: int
    warmup: int
    tiles: int | None
    max_tokens: int
    threads: int
    backend: str
    build: bool
    seed: int
    power: bool
    soak_s: float | None
    accuracy: Accuracy | None
    out: Path | None


def measured(wish: ProfileOptions, scratch: Path) -> Report:
    """Everything that was wished for; `scratch` is a folder for a generated picture."""
    from edgeprune_profiles import with_accuracy
    from edgeprune_profiles.measure.picture import write_picture
    from edgeprune_profiles.measure.runner import ModelRunner
    from edgeprune_profiles.measure.stages import case_of

    with open_model(wish.bundle, wish.backend, threads=wish.threads, build=wish.build) as model:
        notes = []
        images = wish.images
        if not images:
            path, note = write_picture(scratch, model.bundle.manifest.picture.limited(wish.tiles))
            images = [path]
            notes.append(note)
        cases = [case_of(path, wish.question) for path in images]
        runner = ModelRunner(model, wish.tiles)
        report = _kept(_times(wish, model, runner, cases, notes), wish)
        if wish.accuracy is not None:
            report = _kept(with_accuracy(report, wish.accuracy), wish)
        return _further(wish, report, runner, cases[0])


def _times(wish: ProfileOptions, model: Model, runner: ModelRunner, cases: list[Case], notes: list[str]) -> Report:
    from edgeprune_profiles.measure.runner import backend_use, budgets_of, with_cache_bytes
    from edgeprune_profiles.measure.separate_memory import MemoryRequest, measure_apart
    from edgeprune_profiles.measure.stages import NoEnergy
    from edgeprune_profiles.measure.stages import profile as measure
    from edgeprune_profiles.record.profile import BundleRef
    from edgeprune_runtime import EdgepruneError
    from edgeprune_runtime.meters import environment

    budgets, used = budgets_of(model, wish.chosen), backend_use(model)
    on_gpu = used.device == "gpu"
    equal = (
        f"Every answer has {wish.max_tokens} tokens for every budget: end tokens were ignored, so that work is equal."
    )

    def apart(budget: BudgetRecord) -> MemoryReading | None:
        try:
            return measure_apart(
                MemoryRequest(
                    str(wish.bundle),
                    budget.name,
                    str(cases[0].image),
                    wish.question,
                    wish.max_tokens,
                    wish.threads,
                    used.name,
                    wish.tiles,
                )
            )
        except EdgepruneError as error:  # the times are worth keeping without it
            err.print(f"memory unknown: {error}", style="yellow", markup=False, highlight=False)
            return None

    with track("profile", len(budgets) * (wish.warmup + wish.runs * len(cases) + 1)) as advance:
        report = measure(
            runner,
            budgets,
            cases,
            bundle=BundleRef(wish.bundle.resolve().name, model.bundle.sha256),
            environment=environment(),
            command=command_line(),
            repetitions=wish.runs,
            warmup_rounds=wish.warmup,
            max_tokens=wish.max_tokens,
            seed=wish.seed,
            energy=NoEnergy(_GPU_ENERGY) if on_gpu else None,
            memory_apart=apart,
            threads=wish.threads,
            tiles=wish.tiles,
            notes=[equal, *_without_baseline(budgets, model.budgets), *([_GPU_MEMORY] if on_gpu else []), *notes],
            backend=used,
            progress=lambda done, total, label: advance() if done else None,
        )
    return with_cache_bytes(report, model, runner.positions)


def _further(wish: ProfileOptions, report: Report, runner: ModelRunner, case: Case) -> Report:
    """Power windows and the soak, where they were asked for."""
    from edgeprune_profiles.measure.power_and_soak import with_power, with_soak
    from edgeprune_runtime.meters import pick, power_sources

    if not wish.power and wish.soak_s is None:
        return report
    chosen = pick(power_sources(), "cpu" if report.backend is None else report.backend.device)
    if wish.power:
        if chosen.why_not:
            err.print(f"energy unknown: {chosen.why_not}", style="yellow", markup=False, highlight=False)
        report = _kept(with_power(report, runner, case, chosen, progress=_say), wish)
    if wish.soak_s is not None:
        _say(f"soak of {wish.soak_s:.0f} s, budget {report.budgets[0].budget.name}")
        report = _kept(with_soak(report, runner, case, chosen, wish.soak_s), wish)
    return report


def _say(label: str) -> None:
    err.print(f"[dim]{label}[/]", highlight=False)


def _kept(report: Report, wish: ProfileOptions) -> Report:
    from edgeprune_profiles import save_report

    if wish.out is not None:
        save_report(report, wish.out)
    return report


def _without_baseline(budgets: tuple[BudgetRecord, ...], held: tuple[str, ...]) -> list[str]:
    if any(budget.full for budget in budgets):
        return []
    way = "add `--budget 1.0` to the profile" if "1.0" in held else "export the bundle with `--budget 1.0` as well"
    return [f"There is no baseline, so no ratio is given: {way}."]
