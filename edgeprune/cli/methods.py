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
        from edgeprune.tokens.inside import INSIDE
        from edgeprune.tokens.inside.describe import inside_facts
        from edgeprune.tokens.methods import METHODS
        from edgeprune.tokens.registry.describe import facts, markdown_table

        within = [one for one in INSIDE if name in (None, one)]
        chosen = _at_the_output(name)
        if json:
            both = {one: facts(METHODS[one]) for one in chosen}
            emit(both | {f"{one}@{INSIDE[one].part}": inside_facts(INSIDE[one]) for one in within})
        elif as_markdown:
            out.print(markdown_table([METHODS[one] for one in chosen]), markup=False, highlight=False, soft_wrap=True)
        elif name is None:
            _table()
            _inside_table(within)
        else:
            for one in chosen:
                _one(one)
            for one in within:
                _one_inside(one)


def _at_the_output(name: str | None) -> list[str]:
    """Names of methods at the encoder's output that `name` means; none where only one inside the model is called so."""
    from edgeprune.tokens.inside import INSIDE
    from edgeprune.tokens.methods import METHODS

    if name is None:
        return list(METHODS)
    return [] if name in INSIDE and name not in METHODS else [METHODS.choose(name).name]


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


def _inside_table(names: list[str]) -> None:
    from edgeprune.tokens.inside import INSIDE

    if not names:
        return
    rows = [[name, INSIDE[name].part, INSIDE[name].summary] for name in names]
    columns = [
        Column("--inside", left=True),
        Column("part", rank=1, left=True),
        Column("what it does", left=True, wraps=True),
    ]
    show_table("Methods inside the model", columns, rows)


def _one_inside(name: str) -> None:
    from edgeprune.tokens.inside import INSIDE
    from edgeprune.tokens.inside.describe import WHERE

    method = INSIDE[name]
    facts = [
        (f"--inside {name}@LAYERS:KEEP", method.summary),
        ("source", f"{method.source} ({method.evidence})"),
        ("differs", method.differs),
        ("acts", WHERE[method.part]),
        *((f"setting {setting.name}={setting.default:g}", setting.help) for setting in method.settings),
    ]
    for label, text in facts:
        if text:
            say(f"{label}: {text}", indent="    ")
