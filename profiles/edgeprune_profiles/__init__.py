"""Measure what a token budget buys, keep the raw numbers, and say only what they support."""

from edgeprune_profiles.files import write_whole
from edgeprune_profiles.measure import Case, Run, Runner, profile
from edgeprune_profiles.record import Budget, Report, load_accuracy, load_report, with_accuracy
from edgeprune_profiles.report_html import render_html
from edgeprune_profiles.report_text import render_csv, render_markdown
from edgeprune_profiles.saving import save_report

__all__ = [
    "Budget",
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
    "write_whole",
]
