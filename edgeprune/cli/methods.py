"""edgeprune methods: the token-reduction methods this installation knows."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, or file.py:NAME, in full.", show_default="a table of all")
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--as-markdown", help="Print the table of docs/methods.md.")] = False,
    json: Json = False,
) -> None:
    """List token-reduction methods: what each reads, keeps and costs, and where it comes from."""
    with errors_as_one_line():
        from edgeprune.tokens.methods import METHODS
        from edgeprune.tokens.registry.describe import facts, markdown_table

        chosen = list(METHODS) if name is None else [METHODS.choose(name).name]
        if json:
            emit({one: facts(METHODS[one]) for one in chosen})
        elif as_markdown:
            out.print(markdown_table([METHODS[one] for one in chosen]), markup=False, highlight=False, soft_wrap=True)
        elif name is None:
            _table()
        else:
            _one(chosen[0])


def _table() -> None:
    from rich.table import Table
    from rich.text import Text

    from edgeprune.tokens.methods import METHODS
    from edgeprune.tokens.registry.describe import costs, milliseconds, reads_in_words

    table = Table("method", "what it keeps", "reads", "N = 576", "N = 2880")
    for name in METHODS:
        method = METHODS[name]
        table.add_row(
            name,
            Text.assemble(method.summary, (" (reconstruction)" if method.evidence == "reconstruction" else "", "dim")),
            reads_in_words(method) + ("; may be calibrated" if method.calibration else ""),
            milliseconds(method, 576),
            milliseconds(method, 2880),
        )
    out.print(table)
    if conditions := costs().get("conditions"):
        out.print(f"times: {conditions}", highlight=False)
    out.print("reads: vision layers of a tower with 24; `edgeprune methods NAME` says more", highlight=False)


def _one(name: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from edgeprune.tokens.methods import METHODS
    from edgeprune.tokens.registry.describe import TYPICAL, milliseconds, reads_in_words

    method = METHODS[name]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("method", Text(method.name, style="bold"))
    table.add_row("keeps", method.summary)
    table.add_row("source", f"{method.source} ({method.evidence})")
    if method.differs:
        table.add_row("differs", method.differs)
    table.add_row("acts", method.acts)
    table.add_row("reads", reads_in_words(method))
    table.add_row("looks at the question", "yes" if "question" in method.reads(TYPICAL) else "no")
    table.add_row(
        "cost", f"{method.cost}; N = 576: {milliseconds(method, 576)}; N = 2880: {milliseconds(method, 2880)}"
    )
    for setting in method.settings:
        table.add_row(f"--set {setting.name}={setting.default:g}", setting.help)
    table.add_row("calibration", method.calibration.help if method.calibration else "none needed")
    out.print(table)
