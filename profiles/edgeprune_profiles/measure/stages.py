"""Measure budgets side by side: interleaved, warmed up, raw.

In each round every budget answers every case once, in an order shuffled anew (seeded), so that drift of the machine,
and what the previous request left in the caches, hit all budgets alike. Sample i of one budget and sample i of another
are the same case in the same round: that is what makes ratios paired. A second question about the same picture follows each request, so
that first / second is paired too. Memory is read in one further request per budget, because the sampling thread would disturb the timed
ones; energy counters are only read before and after, so they stay.
"""

from __future__ import annotations

import datetime
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeprune_profiles.record.profile import (
    SCHEMA,
    BackendUse,
    BudgetRecord,
    BudgetResult,
    BundleRef,
    Report,
    RequestSample,
    SecondQuestion,
)
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.base import Meter
from edgeprune_runtime.meters.busy import MachineLook, MachineUse, look, machine_use
from edgeprune_runtime.meters.energy import EnergyMeter, EnergyReading
from edgeprune_runtime.meters.environment import Environment
from edgeprune_runtime.meters.memory import MemoryMeter, MemoryReading
from edgeprune_runtime.timing import Span

ONE_PROCESS = "one process held all budgets when it was read"
OWN_PROCESS = "each budget had a process of its own"

RunProgress = Callable[[int, int, str], None]
"""Requests done, requests in all, what is going on."""


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and a question about it; `sha256` of the picture's file, where the report shall hold it."""

    image: Path
    question: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What one request took. Spans as in `STAGES`; `decode` once per token after the first. `cached_tokens` of the prompt's were there."""

    spans: tuple[Span, ...]
    visual_tokens: int
    token_ids: tuple[int, ...]
    prompt_tokens: int = 0
    cached_tokens: int = 0


class NoEnergy:
    """The meter where counters would be read that do not cover the work, such as a processor's beside a GPU."""

    name = "none"

    def __init__(self, why: str) -> None:
        self._why = why

    def why_unavailable(self) -> str:
        return self._why

    @contextmanager
    def window(self) -> Iterator[NoEnergy]:
        yield self

    def reading(self) -> EnergyReading:
        return EnergyReading(f"unknown: {self._why}", None, 0.0)


class Runner(Protocol):
    """Answers one request from scratch: nothing of an earlier request on the same picture may be reused."""

    def run(self, budget: str, image: Path, question: str, max_tokens: int) -> Run: ...


def case_of(image: Path, question: str) -> Case:
    """With the picture's hash; one that cannot be read is refused later, by what opens it."""
    try:
        return Case(image, question, hashlib.sha256(image.read_bytes()).hexdigest())
    except OSError:
        return Case(image, question)


def profile(
    runner: Runner,
    budgets: Sequence[BudgetRecord],
    cases: Sequence[Case],
    *,
    bundle: BundleRef,
    environment: Environment,
    command: str,
    repetitions: int = 10,
    warmup_rounds: int = 2,
    max_tokens: int = 32,
    seed: int = 0,
    energy: Meter[EnergyReading] | None = None,
    memory: Meter[MemoryReading] | None = None,
    memory_apart: Callable[[BudgetRecord], MemoryReading | None] | None = None,
    threads: int = 0,
    notes: Sequence[str] = (),
    backend: BackendUse | None = None,
    use_before: MachineUse | None = None,
    second_question: str | None = None,
    second: Callable[[], Run] | None = None,
    look: Callable[[], MachineLook] = look,
    progress: RunProgress = lambda done, total, label: None,
) -> Report:
    """Run everything and return the raw numbers.

    warmup_rounds   rounds of every budget on the first case that are thrown away
    memory_apart    measures one budget in a process of its own; better than the default, where the budgets share one
    second          asks another question, `second_question`, about the picture that the last request saw; after each, timed apart
    look            sees what else the machine does, before the first round and after each
    Raises MeasurementError when there is nothing to measure, and whatever `runner` raises.
    """
    if not budgets or not cases or repetitions < 1:
        raise MeasurementError(
            f"nothing to measure: {len(budgets)} budgets, {len(cases)} cases, {repetitions} repetitions; "
            "each must be at least 1"
        )
    names = [budget.name for budget in budgets]
    if len(set(names)) != len(names):
        raise MeasurementError(f"two budgets have the same name, got {', '.join(names)}; name each once")
    energy, memory = energy or EnergyMeter(), memory or MemoryMeter()
    total = len(budgets) * (warmup_rounds + repetitions * len(cases) + 1)
    done = 0

    def request(budget: BudgetRecord, case: Case, label: str) -> Run:
        nonlocal done
        progress(done, total, f"{label}, budget {budget.name}")
        run = runner.run(budget.name, case.image, case.question, max_tokens)
        done += 1
        return run

    for _ in range(warmup_rounds):
        for budget in budgets:
            request(budget, cases[0], "warm-up")
            if second is not None:
                second()

    generator = np.random.default_rng(seed)
    samples: dict[str, list[RequestSample]] = defaultdict(list)
    looks = [look()]
    energy_source = ""
    for repetition in range(repetitions):
        for number, case in enumerate(cases):
            for index in generator.permutation(len(budgets)):
                budget = budgets[index]
                with energy.window() as window:
                    run = request(budget, case, f"round {repetition + 1} of {repetitions}")
                joules = window.reading()
                energy_source = joules.source
                again = None if second is None else _second(second())
                samples[budget.name].append(_sample(run, repetition, number, joules.energy_j, again))
        looks.append(look())

    readings: dict[str, MemoryReading | None] = {}
    for budget in budgets:
        if memory_apart is not None:
            progress(done, total, f"memory, budget {budget.name}")
            readings[budget.name] = memory_apart(budget)
            done += 1
        elif memory.why_unavailable() is None:
            with memory.window() as view:
                request(budget, cases[0], "memory")
            readings[budget.name] = view.reading()
    progress(total, total, "done")
    return Report(
        schema=SCHEMA,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        command=command,
        bundle=bundle,
        environment=environment,
        cases=tuple(case.image.name for case in cases),
        max_tokens=max_tokens,
        warmup_rounds=warmup_rounds,
        repetitions=repetitions,
        seed=seed,
        energy_source=energy_source,
        memory_scope=ONE_PROCESS if memory_apart is None else OWN_PROCESS,
        budgets=tuple(BudgetResult(b, tuple(samples[b.name]), readings.get(b.name)) for b in budgets),
        question=" / ".join(dict.fromkeys(case.question for case in cases)),
        threads=threads,
        notes=tuple(notes),
        backend=backend,
        pictures_sha256=tuple(case.sha256 for case in cases if case.sha256 is not None),
        use_before=use_before,
        use_during=machine_use(looks),
        second_question=second_question,
    )


def _by_stage(run: Run) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Seconds on the clock and of the processor."""
    wall: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    for span in run.spans:
        wall[span.name].append(span.wall_s)
        cpu[span.name].append(span.cpu_s)
    return {stage: tuple(times) for stage, times in wall.items()}, {stage: tuple(times) for stage, times in cpu.items()}


def _second(run: Run) -> SecondQuestion:
    return SecondQuestion(run.prompt_tokens, run.cached_tokens, *_by_stage(run))


def _sample(
    run: Run, repetition: int, case: int, energy_j: float | None, second: SecondQuestion | None
) -> RequestSample:
    wall, cpu = _by_stage(run)
    return RequestSample(
        repetition=repetition,
        case=case,
        visual_tokens=run.visual_tokens,
        generated_tokens=len(run.token_ids),
        wall_s=wall,
        cpu_s=cpu,
        energy_j=energy_j,
        second=second,
    )
