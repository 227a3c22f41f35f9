"""edgeprune methods: the token-reduction methods this installation knows."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.complete import method_names_like
from edgeprune.cli.console import Json, emit, errors_as_one_line, out, say
from edgeprune.cli.tables import Column, show_table


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            help="One method, or file.py:NAME, in full.",
            show_default="a table of all",
            autocompletion=method_names_like,
        ),
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
    from edgeprune.tokens.methods import METHODS
    from edgeprune.tokens.registry.describe import costs, milliseconds, reads_in_words

    rows = []
    for name in METHODS:
        method = METHODS[name]
        mark = " (reconstruction)" if method.evidence == "reconstruction" else ""
        reads = reads_in_words(method) + ("; may be calibrated" if method.calibration else "")
        rows.append([name, milliseconds(method, 576), milliseconds(method, 2880), reads, method.summary + mark])
    columns = [
        Column("method", left=True),
        Column("N = 576", rank=1),
        Column("N = 2880", rank=2),
        Column("reads", rank=3, left=True),
        Column("what it keeps", left=True, wraps=True),
    ]
    show_table("Methods", columns, rows)
    if conditions := costs().get("conditions"):
        say(f"times: {conditions}")
    say("reads: vision layers of a tower with 24; `edgeprune methods NAME` says more")


def _one(name: str) -> None:
    from edgeprune.tokens.methods import METHODS
    from edgeprune.tokens.registry.describe import TYPICAL, milliseconds, reads_in_words

    method = METHODS[name]
    facts = [
        ("method", method.name),
        ("keeps", method.summary),
        ("source", f"{method.source} ({method.evidence})"),
        ("differs", method.differs),
        ("acts", method.acts),
        ("reads", reads_in_words(method)),
        ("looks at the question", "yes" if "question" in method.reads(TYPICAL) else "no"),
        ("cost", f"{method.cost}; N = 576: {milliseconds(method, 576)}; N = 2880: {milliseconds(method, 2880)}"),
        *((f"--set {setting.name}={setting.default:g}", setting.help) for setting in method.settings),
        ("calibration", method.calibration.help if method.calibration else "none needed"),
    ]
    for label, text in facts:
        if text:
            say(f"{label}: {text}", indent="    ")
