"""The derived numbers of a report as plain data, for --json and for scripts. Names carry units; None = unknown."""

from __future__ import annotations

from typing import Any

from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report.summary import BudgetSummary, summarise
from edgeprune_profiles.report.verdict import verdict


def digest(report: Report) -> dict[str, Any]:
    """Verdict, conditions and one entry per budget. Raw samples stay in the report itself."""
    summary = summarise(report)
    return {
        "verdict": verdict(summary),
        "notes": report.notes,
        "bundle": report.bundle,
        "environment": report.environment,
        "use_before": report.use_before,
        "use_during": report.use_during,
        "command": report.command,
        "pictures": report.cases,
        "question": report.question,
        "second_question": report.second_question,
        "threads": report.threads,
        "warmup_rounds": report.warmup_rounds,
        "repetitions": report.repetitions,
        "max_tokens": report.max_tokens,
        "backend": report.backend,
        "energy_source": report.energy_source,
        "power_source": report.power_source,
        "memory_scope": report.memory_scope,
        "budgets": [_budget(b) for b in summary.budgets],
        "soak": summary.soak,
        "accuracy": report.accuracy,
    }


def _budget(b: BudgetSummary) -> dict[str, Any]:
    budget = b.result.budget
    return {
        "budget": budget.name,
        "method": budget.method,
        "keep": budget.keep,
        "keep_ratio": budget.keep_ratio,
        "visual_tokens": b.visual_tokens,
        "requests": len(b.result.samples),
        "ttft_s": b.ttft_s,
        "ttft_cpu_s": b.ttft_cpu_s,
        "tpot_s": b.tpot_s,
        "tokens_per_s": b.tokens_per_s,
        "stages": b.stages,
        "fixed_share": b.untouched,
        "ttft_full_over_this": b.ttft_gain,
        "ttft_cpu_full_over_this": b.ttft_cpu_gain,
        "tpot_full_over_this": b.tpot_gain,
        "second": b.second,
        "memory": b.result.memory,
        "weights_bytes": budget.weights_bytes,
        "cache_bytes": budget.cache_bytes,
        "energy_j": b.energy_j,
        "power": b.power,
    }
