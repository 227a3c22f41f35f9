"""A report in the terminal: which budget to take, what was measured, a table, what is unknown."""

from __future__ import annotations

from edgeprune.cli.console import say
from edgeprune.cli.tables import columns, show_table
from edgeprune_profiles.report.advice import advice, table
from edgeprune_profiles.report.choice import BudgetChoice
from edgeprune_profiles.report.summary import Summary
from edgeprune_profiles.report.unknown import unknown_line
from edgeprune_profiles.report.verdict import verdict


def show(summary: Summary, choice: BudgetChoice) -> None:
    """Print to stdout."""
    if choice.needs:
        for number, sentence in enumerate(advice(choice)):
            say(sentence, style="bold" if number == 0 else None)
        say("")
    for sentence in verdict(summary, choice.about):
        say(sentence)
    say("")
    head, rows = table(choice)
    if summary.budgets:
        show_table(
            "Medians; front: no other is both sooner and more accurate", columns(head, ("budget", "meets", "")), rows
        )
    if not choice.needs:
        say(advice(choice)[0], style="dim")
    if unknown := unknown_line(summary):
        say(unknown, style="dim")
