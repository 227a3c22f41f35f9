"""An evaluation in the terminal: scores, what was lost and won, scores by kind of question."""

from __future__ import annotations

from edgeprune.cli.console import out, say
from edgeprune.cli.tables import columns, show_table
from edgeprune.evaluate import Comparison, MethodRow, PairedDifference
from edgeprune_profiles.report import units
from edgeprune_runtime.budgets import asked_for
from edgeprune_runtime.statistics import LEAST

_AGAINST = "against full budget"


def show(comparison: Comparison) -> None:
    """Print to stdout."""
    _scores(comparison)
    say(
        "Differences are in points, with the 95 % interval of a bootstrap over pictures, paired by question; ~ is not distinguishable "
        "from 0.",
        style="dim",
    )
    out.print()
    _leads(comparison)
    if any(row.kinds for row in comparison.rows):
        _kinds(comparison)
    conditions = ", ".join(f"{k} {v[:12]}" for k, v in comparison.settings.items())
    say(
        f"{comparison.data}: {comparison.questions} questions about {comparison.images} pictures; {conditions}.",
        style="dim",
    )
    if not any(row.keep_ratio == 1.0 for row in comparison.rows):
        say("There is no baseline: export the bundle with `--budget 1.0` as well.")


def _scores(comparison: Comparison) -> None:
    metrics = sorted(comparison.rows[0].scores, key=lambda name: name != comparison.headline)
    head = ["selection", "K", *(units.metric(name) for name in metrics), "no answer", _AGAINST]
    rows = [
        [
            row.name,
            _keep(row),
            *(units.percent(row.scores[name]) for name in metrics),
            str(row.errors),
            _against(row, comparison.headline),
        ]
        for row in comparison.rows
    ]
    show_table(
        f"Accuracy by selection ({units.metric(comparison.headline)} leads)",
        columns(head, ("selection", _AGAINST)),
        rows,
    )


def _leads(comparison: Comparison) -> None:
    """How far the first method is ahead of each other one at the same budget."""
    rows = [[row.name, other, _points(lead)] for row in comparison.rows for other, lead in row.over.items()]
    if rows:
        show_table(
            "Lead over the other methods, points",
            columns(("selection", "over", "lead"), ("selection", "over", "lead")),
            rows,
        )


def _kinds(comparison: Comparison) -> None:
    kinds = list(dict.fromkeys(kind for row in comparison.rows for kind in row.kinds))
    rows = [[row.name, *(units.percent(row.kinds.get(kind)) for kind in kinds)] for row in comparison.rows]
    title = f"{units.metric(comparison.headline)} by kind of question"
    show_table(title, columns(["selection", *kinds], ("selection",)), rows)


def _keep(row: MethodRow) -> str:
    if row.keep is not None:
        return str(row.keep)
    return "all" if row.keep_ratio == 1.0 else "by picture"


def _against(row: MethodRow, metric: str) -> str:
    difference = row.differences.get(metric)
    if difference is None:  # "1.0 on 4 tiles" drops no token of what it sees, and is no reference all the same
        return (
            "reference" if row.keep_ratio == 1.0 and asked_for(row.name)[1:] == (None, None, "none") else "no baseline"
        )
    return _points(difference)


def _points(difference: PairedDifference) -> str:
    interval = f"[{units.points(difference.low)}, {units.points(difference.high)}]"
    few = f" ({difference.clusters} of {LEAST} pictures)" if difference.clusters < LEAST else ""
    return f"{'' if difference.distinguishable else '~'}{units.points(difference.point)} {interval}{few}"
