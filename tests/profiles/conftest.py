"""A runner whose clock is ours, and a report that fills every part of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune_profiles.measure.stages import Run
from edgeprune_profiles.record.profile import (
    SCHEMA,
    Accuracy,
    AccuracyRow,
    BudgetRecord,
    BudgetResult,
    BundleRef,
    Report,
    RequestSample,
)
from edgeprune_runtime.meters import Environment, MemoryReading
from edgeprune_runtime.statistics import PairedDifference
from edgeprune_runtime.timing import Span

ENVIRONMENT = Environment(
    cpu_model="Made-up CPU <8-core>", cores_logical=16, cores_physical=8, cores_usable=16, cpu_quota_cores=None,
    governor=None, frequency_min_hz=800_000_000, frequency_max_hz=4_200_000_000, memory_bytes=32 << 30,
    system="Test OS 1", kernel="Linux 6.1", machine="x86_64", isolation=None, python="CPython 3.11.7",
    versions={"edgeprune": "0.1.0", "numpy": "2.4.6", "onnxruntime": None}, providers=("CPUExecutionProvider",),
)  # fmt: skip

FULL = BudgetRecord("1.0", "full", None, 1.0, 1_200 << 20, 300 << 20)
FIFTH = BudgetRecord("0.2", "hired", 576, 0.2, 1_200 << 20, 70 << 20)


class FakeRunner:
    """Prefill takes 1 s at full budget and 0.25 s else; each decode step 0.01 s. Remembers the order of requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def run(self, budget: str, image: Path, question: str, max_tokens: int) -> Run:
        self.asked.append((budget, image.name))
        prefill = 1.0 if budget == "1.0" else 0.25
        spans = [Span("preprocess", 0.05, 0.05), Span("tower", 0.1, 0.2), Span("tower", 0.1, 0.2)]
        spans += [Span("select", 0.01, 0.01), Span("prefill", prefill, 2 * prefill)]
        spans += [Span("decode", 0.01, 0.02)] * (max_tokens - 1)
        return Run(tuple(spans), 2880 if budget == "1.0" else 576, tuple(range(max_tokens)))


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


def full_report() -> Report:
    """Four budgets and three controls with plausible noise, so that every part of the page has something to show."""
    generator = np.random.default_rng(3)
    budgets = [FULL, BudgetRecord("0.4", "hired", 1152, 0.4, 1_200 << 20, 130 << 20), FIFTH]
    budgets.append(BudgetRecord("0.1", "hired", 288, 0.1, 1_200 << 20, 40 << 20))
    results = []
    for budget in budgets:
        samples = []
        for repetition in range(12):
            noise = 1 + 0.05 * generator.standard_normal()
            wall = {"preprocess": (0.045 * noise,), "tower": (0.21 * noise,) * 5, "select": (0.004 * noise,)}
            wall["prefill"] = ((0.1 + 4.2 * budget.keep_ratio**1.15) * noise,)
            wall["decode"] = (0.041 * noise * (1 + 0.12 * (budget.keep_ratio == 1.0)),) * 31
            cpu = {stage: tuple(1.9 * t for t in times) for stage, times in wall.items()}
            samples.append(RequestSample(repetition, 0, budget.keep or 2880, 32, wall, cpu, None))
        peak = int((1_650 + 330 * budget.keep_ratio) * 2**20)
        memory = MemoryReading("proc:VmHWM", 310 << 20, peak, peak - (1_190 << 20), peak - (9 << 20))
        results.append(BudgetResult(budget, tuple(samples), memory))
    return Report(
        schema=SCHEMA, created="2026-11-21T09:00:00+00:00", command="edgeprune profile demo --budget 0.2",
        bundle=BundleRef("demo-bundle", "0123456789abcdef" * 4), environment=ENVIRONMENT, cases=("street.jpg",),
        max_tokens=32, warmup_rounds=2, repetitions=12, seed=0,
        energy_source="unknown: /sys/class/powercap does not exist",
        memory_scope="each budget had a process of its own", budgets=tuple(results), accuracy=_accuracy(),
    )  # fmt: skip


def _accuracy() -> Accuracy:
    table = {
        "hired": (0.713, 0.690, 0.642), "random": (0.655, 0.571, 0.489),
        "uniform": (0.662, 0.586, 0.503), "downsample": (0.671, 0.612, 0.520),
    }  # fmt: skip
    kinds = {"colour": 0.91, "count": 0.62, "digit": 0.55, "shape": 0.88, "word": 0.48}
    rows = [_row("1.0", "full", 1.0, 0.722, kinds)]
    for method, scores in table.items():
        for ratio, score in zip((0.4, 0.2, 0.1), scores, strict=True):
            rows.append(_row(f"{method}@{ratio}", method, ratio, score, {k: v * score for k, v in kinds.items()}))
    return Accuracy("held-out.jsonl", 240, 1200, "exact_match", tuple(rows))


def _row(name: str, method: str, ratio: float, score: float, kinds: dict[str, float]) -> AccuracyRow:
    gap = score - 0.722
    difference = PairedDifference(gap - 0.016, gap, gap + 0.016, 1200, 240, abs(gap) > 0.016)
    scores = {"exact_match": score, "vqa_accuracy": score, "anls": score + 0.02}
    return AccuracyRow(name, method, ratio, 1200, 0, scores, {} if ratio == 1.0 else {"exact_match": difference},
                       kinds=kinds)  # fmt: skip


@pytest.fixture
def report() -> Report:
    return full_report()
