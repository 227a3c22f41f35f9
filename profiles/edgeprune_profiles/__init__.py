"""Measure what a token budget buys, keep the raw numbers, and say only what they support."""

from edgeprune_profiles.measure.stages import Case, Run, Runner, profile
from edgeprune_profiles.record.profile import BudgetRecord, Report, load_accuracy, load_report, with_accuracy
from edgeprune_profiles.record.saving import save_report
from edgeprune_profiles.report.html import render_html
from edgeprune_profiles.report.text import render_csv, render_markdown

__all__ = [
    "BudgetRecord",
    "Case",
    "Report",
    "Run",
    "Runner",
    "load_accuracy",
    "load_report",
    "profile",
    "render_csv",
    "render_html",
    "render_markdown",
    "save_report",
    "with_accuracy",
]
