"""edgeprune report: a profile as a page, a table for a pull request, or rows for a spreadsheet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out
from edgeprune.cli.options import (
    AccuracyFile,
    AccuracyOption,
    Force,
    Markdown,
    MaxEnergy,
    TokensPerS,
    Ttft,
    max_memory_option,
)


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
    ttft: Ttft = None,
    tokens_per_s: TokensPerS = None,
    wanted: AccuracyOption = None,
    max_memory: Annotated[str | None, max_memory_option("what the measured machine has")] = None,
    max_energy: MaxEnergy = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write REPORT.JSON in readable forms and print what it says; with needs, which budget to take.

    With --ttft, --tokens-per-s, --accuracy, --max-memory or --max-energy the answer comes first, with the reason.
    """
    if wanted is not None and accuracy is None:
        raise typer.BadParameter(
            "--accuracy needs --eval FILE, as `edgeprune eval BUNDLE --data QUESTIONS --out FILE` writes it"
        )
    with errors_as_one_line():
        from edgeprune_profiles import (
            load_accuracy,
            load_report,
            render_csv,
            render_html,
            render_markdown,
            with_accuracy,
        )
        from edgeprune_profiles.record import quantities as q
        from edgeprune_profiles.report.advice import advice, choice_as_data
        from edgeprune_profiles.report.choice import ReportNeeds, choose_budget
        from edgeprune_profiles.report.digest import digest
        from edgeprune_profiles.report.summary import summarise
        from edgeprune_profiles.report.verdict import verdict
        from edgeprune_runtime.claims import claimed, require_new
        from edgeprune_runtime.errors import OutputError
        from edgeprune_runtime.files import write_whole

        points, score = (None, None) if wanted is None else q.accuracy_shares(wanted, "--accuracy")
        needs = ReportNeeds(
            ttft_s=None if ttft is None else q.quantity(ttft, q.SECONDS, "--ttft"),
            tokens_per_s=None if tokens_per_s is None else q.quantity(tokens_per_s, q.PER_SECOND, "--tokens-per-s"),
            accuracy=points,
            score=score,
            memory_bytes=None if max_memory is None else round(q.quantity(max_memory, q.BYTES, "--max-memory")),
            energy_j=None if max_energy is None else q.quantity(max_energy, q.JOULES, "--max-energy"),
        )
        if html is not None and html.suffix.lower() not in (".html", ".htm") and not _special(html):
            raise OutputError(f"--html writes a page, not {html.suffix or html.name}; name it .html")
        found = load_report(report_json)
        if accuracy is not None:
            found = with_accuracy(found, load_accuracy(accuracy))
        if not json and html is None and markdown is None and csv is None:
            html = report_json.with_suffix(".html")
        forms = (
            (html, lambda one: render_html(one, needs)),
            (markdown, lambda one: render_markdown(one, needs)),
            (csv, render_csv),
        )
        asked = [(path, render) for path, render in forms if path is not None]
        require_new(*(path for path, _ in asked), force=force)
        with ExitStack() as claims:
            for path, _ in asked:
                claims.enter_context(claimed(path))
            written = [(path, render(found)) for path, render in asked]
            for path, text in written:
                write_whole(path, text.encode())
        summary = summarise(found)
        choice = choose_budget(summary, needs)
        if json:
            said = {"advice": advice(choice), "choice": choice_as_data(choice)} if needs else {}
            said |= {"verdict": verdict(summary, choice.about)}
            emit({**digest(found), **said, "written": [str(path) for path, _ in written]})
            return
        from edgeprune.cli.measure.report_text import show

        show(summary, choice)
        for path, _ in written:
            out.print(f"written: {path}", highlight=False, markup=False)


def _special(path: Path) -> bool:
    """A device or a pipe, whatever its name."""
    return path.exists() and not path.is_file() and not path.is_dir()
