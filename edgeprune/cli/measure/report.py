"""edgeprune report: a profile as a page, a table for a pull request, or rows for a spreadsheet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out
from edgeprune.cli.options import AccuracyFile, Markdown, max_memory_option


def report(
    report_json: Annotated[Path, typer.Argument(metavar="REPORT.JSON", help="Written by `edgeprune profile --out`.")],
    html: Annotated[
        Path | None,
        typer.Option(
            help="One self-contained page.",
            show_default="REPORT.html beside the report, when no form and no --json is given",
        ),
    ] = None,
    markdown: Markdown = None,
    csv: Annotated[Path | None, typer.Option(help="One row per request, raw.")] = None,
    accuracy: AccuracyFile = None,
    max_memory: Annotated[str | None, max_memory_option("what the measured machine has")] = None,
    json: Json = False,
) -> None:
    """Write REPORT.JSON in readable forms and print what it says."""
    with errors_as_one_line():
        from edgeprune_profiles import (
            load_accuracy,
            load_report,
            render_csv,
            render_html,
            render_markdown,
            with_accuracy,
        )
        from edgeprune_profiles.record.quantities import BYTES, quantity
        from edgeprune_profiles.report.digest import digest
        from edgeprune_runtime.claims import claimed
        from edgeprune_runtime.files import write_whole

        limit_bytes = None if max_memory is None else round(quantity(max_memory, BYTES, "--max-memory"))
        found = load_report(report_json)
        if accuracy is not None:
            found = with_accuracy(found, load_accuracy(accuracy))
        if not json and html is None and markdown is None and csv is None:
            html = report_json.with_suffix(".html")
        forms = ((html, lambda one: render_html(one, limit_bytes)), (markdown, render_markdown), (csv, render_csv))
        wanted = [(path, render) for path, render in forms if path is not None]
        with ExitStack() as claims:
            for path, _ in wanted:
                claims.enter_context(claimed(path))
            written = [(path, render(found)) for path, render in wanted]
            for path, text in written:
                write_whole(path, text.encode())
        facts = digest(found)
        if json:
            emit({**facts, "written": [str(path) for path, _ in written]})
            return
        for sentence in facts["verdict"]:
            out.print(sentence, highlight=False, markup=False)
        for path, _ in written:
            out.print(f"written: {path}", highlight=False, markup=False)
