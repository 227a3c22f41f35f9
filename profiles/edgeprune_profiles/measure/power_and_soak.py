"""What is measured after the timed requests and put into their report: power windows by piece, and a thermal soak.

Apart from them, because a sampling process runs beside this work, and because a soak leaves a warm board behind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edgeprune_profiles.measure.stages import Case, Runner
from edgeprune_profiles.record.power_profile import EnergyPiece, PowerWindow, power_window
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.record.sustain import Soak, sustain
from edgeprune_runtime.meters import SourceCandidate

SoakProgress = Callable[[str], None]
"""What begins now."""


class PieceRunner(Runner, Protocol):
    """A runner whose requests come apart."""

    def pieces(self, budget: str, image: Path, question: str, max_tokens: int) -> tuple[EnergyPiece, ...]: ...


def with_power(
    report: Report,
    runner: PieceRunner,
    case: Case,
    chosen: SourceCandidate,
    *,
    progress: SoakProgress = lambda label: None,
    window: Callable[[EnergyPiece, SourceCandidate], PowerWindow] = power_window,
) -> Report:
    """The report with a power window for each piece at each budget; without a sensor, with the reason instead."""
    if chosen.kind == "none":
        return msgspec.structs.replace(report, power_source=f"unknown: {chosen.why_not}")
    results = []
    for result in report.budgets:
        windows = []
        for piece in runner.pieces(result.budget.name, case.image, case.question, report.max_tokens):
            progress(f"power, budget {result.budget.name}, {piece.name}")
            windows.append(window(piece, chosen))
        results.append(msgspec.structs.replace(result, power=tuple(windows)))
    return msgspec.structs.replace(report, power_source=chosen.name, budgets=tuple(results))


def with_soak(
    report: Report,
    runner: Runner,
    case: Case,
    chosen: SourceCandidate,
    seconds: float,
    soak: Callable[[str, Callable[[], object], SourceCandidate, float], Soak] = sustain,
) -> Report:
    """The report with a soak of its first budget."""
    budget = report.budgets[0].budget.name
    found = soak(budget, lambda: runner.run(budget, case.image, case.question, report.max_tokens), chosen, seconds)
    return msgspec.structs.replace(report, soak=found)
