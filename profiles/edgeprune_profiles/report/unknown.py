"""What a report does not know, each with the reason or the way to find out: folded into one line, and unfolded for who asks."""

from __future__ import annotations

from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report.summary import Summary


def unknowns(summary: Summary) -> dict[str, str]:
    """Name -> why, or what would tell. Empty where everything is known."""
    report, machine = summary.report, summary.report.environment
    use, board = report.use_during, report.use_during.board if report.use_during else None
    soaked = summary.soak.last.stretch.board if summary.soak else None
    not_shown = "this machine does not show it"
    missing = {
        "accuracy": (report.accuracy is None, "not evaluated: `edgeprune eval BUNDLE --data QUESTIONS --out accuracy.json`, then --eval"),
        "energy and power": (all(b.answer_j is None for b in summary.budgets), _why_no_energy(report)),
        "peak memory": (any(b.result.memory is None for b in summary.budgets), "the process that measures it could not run"),
        "what other programs did": (use is None or use.other_cores is None, not_shown),
        "temperature": (not (board and board.hottest_c) and not (soaked and soaked.hottest_c), not_shown),
        "clocks": (not (board and board.mean_hz) and not (soaked and soaked.mean_hz), not_shown),
        "throttling": ((board is None or board.throttled_share is None) and soaked is None, not_shown),
        "governor": (machine.governor is None, not_shown),
        "frequency limits": (machine.frequency_max_hz is None, not_shown),
        "power mode": (machine.power_mode is None, "unknown, or the machine has none"),
        "processor": (machine.cpu_model is None, not_shown),
        "memory of the machine": (machine.memory_bytes is None, not_shown),
    }  # fmt: skip
    return {name: why for name, (is_missing, why) in missing.items() if is_missing}


def unknown_line(summary: Summary) -> str:
    """`Unknown here: power, temperature.`; "" where everything is known."""
    names = unknowns(summary)
    return f"Unknown here: {', '.join(names)}." if names else ""


def _why_no_energy(report: Report) -> str:
    if report.power_source is not None:
        return report.power_source.removeprefix("unknown: ")
    return f"{report.energy_source.removeprefix('unknown: ')}. `edgeprune profile --power` looks for further sensors."
