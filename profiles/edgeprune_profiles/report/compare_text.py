"""A comparison as cells for the terminal, and as Markdown for a pull request."""

from __future__ import annotations

from edgeprune_profiles.report import units
from edgeprune_profiles.report.compare import ComparisonLine, ReportComparison
from edgeprune_runtime.statistics import LEAST, Ratio

HEAD = ("budget", "quantity", "A", "B", "A / B", "")
SHORT_HEAD = HEAD[:-1]


def cells(line: ComparisonLine) -> list[str]:
    """In the order of `HEAD`. Without a ratio the last cell says why."""
    return [
        line.budget,
        line.quantity,
        _shown(line.a, line.unit),
        _shown(line.b, line.unit),
        units.times(line.ratio) if isinstance(line.ratio, Ratio) else units.bounds(line.ratio) if line.ratio else "",
        line.note,
    ]


def short_cells(line: ComparisonLine) -> list[str]:
    """In the order of `SHORT_HEAD`: the reason stands where the ratio is missing."""
    ratio = units.short_times(line.ratio) if line.ratio else line.note
    marked = f"{ratio} ({line.note})" if line.ratio and line.note else ratio
    return [line.budget, line.quantity, _shown(line.a, line.unit), _shown(line.b, line.unit), marked]


def method(found: ReportComparison) -> str:
    """How to read the ratios."""
    how = (
        "paired by round and case"
        if found.paired
        else "unpaired, because the pictures or the question are not the same"
    )
    intervals = sum(isinstance(line.ratio, Ratio) for line in found.lines)
    if any(isinstance(line.ratio, Ratio) and line.ratio.n == 1 for line in found.lines):
        return f"A / B above 1: B takes less. Medians, {how}. One pair has no interval: profile with --runs {LEAST} or more."
    return (
        f"A / B above 1: B takes less. Medians, {how}, with 95 % intervals of what varied within the two runs; what changed between "
        "them (temperature, other programs) is not in them. If nothing differed, about "
        f"{intervals * 0.05:.1f} of {intervals} intervals would still miss 1. Energy of power windows: the range is the error of the method."
    )


def render_markdown(found: ReportComparison, a: str, b: str) -> str:
    """Verdict, what differs, table, how to read it. Ends with a newline."""
    differs = found.differs or ("nothing that was recorded",)
    lines = [HEAD, ["---"] * len(HEAD), *(cells(line) for line in found.lines)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    blocks = [
        f"A is `{a}`, B is `{b}`.",
        _list(found.verdict),
        f"What differs:\n\n{_list(differs)}",
        table,
        method(found),
    ]
    return "\n\n".join(blocks) + "\n"


def _shown(value: float | None, unit: str) -> str:
    if unit == "B":
        return units.size(None if value is None else round(value))
    return units.seconds(value) if unit == "s" else units.energy(value)


def _list(sentences: tuple[str, ...]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
