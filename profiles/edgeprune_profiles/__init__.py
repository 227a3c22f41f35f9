"""Measure what a token budget buys, keep the raw numbers, and say only what they support."""

from edgeprune_profiles.measure import Case, Run, Runner, profile
from edgeprune_profiles.record import Report, load_accuracy, load_report, save_report
from edgeprune_profiles.report_html import render_html
from edgeprune_profiles.report_text import render_csv, render_markdown

__all__ = [
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
]
