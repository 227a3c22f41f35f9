"""edgeprune compare: two profiles held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out, say
from edgeprune.cli.options import Force, Markdown


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.JSON", help="Written by `edgeprune profile --out`.")],
    b: Annotated[Path, typer.Argument(metavar="B.JSON", help="Another.")],
    markdown: Markdown = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say what takes less in B.JSON than in A.JSON, by budget and stage, and what is not distinguishable."""
    with errors_as_one_line():
        from edgeprune.cli.tables import columns, show_table
        from edgeprune_profiles import load_report
        from edgeprune_profiles.report.compare import compare as compared
        from edgeprune_profiles.report.compare_text import SHORT_HEAD, method, render_markdown, short_cells
        from edgeprune_runtime.claims import claimed, require_new
        from edgeprune_runtime.files import write_whole

        require_new(markdown, force=force)
        one, other = load_report(a), load_report(b)
        with claimed(markdown):
            found = compared(one, other)
            if markdown is not None:
                write_whole(markdown, render_markdown(found, a.name, b.name).encode())
        if json:
            emit({"a": str(a), "b": str(b), "comparison": found, "method": method(found)})
            return
        for sentence in found.verdict:
            say(sentence)
        out.print()
        for sentence in found.differs:
            say(f"differs: {sentence}", style="yellow")
        show_table(
            f"A {a.name}, B {b.name}",
            columns(SHORT_HEAD, ("budget", "quantity", "A / B")),
            [short_cells(line) for line in found.lines],
        )
        say(f"~ is not distinguishable from 1. {method(found)}", style="dim")
