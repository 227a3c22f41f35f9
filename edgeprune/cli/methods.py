"""edgeprune methods: the token-reduction methods this installation knows."""

from __future__ import annotations

from edgeprune.cli.console import Json, emit, errors_as_one_line, out


def methods(json: Json = False) -> None:
    """List token-reduction methods: what each does and where it comes from."""
    with errors_as_one_line():
        from importlib.util import find_spec

        from rich.table import Table

        from edgeprune_runtime.errors import MissingExtra

        if find_spec("torch") is None:
            raise MissingExtra(
                "methods are written in torch, not installed here; install with `pip install edgeprune[export]`"
            )
        from edgeprune.tokens.methods import METHODS

        if json:
            emit({name: {"summary": METHODS[name].summary, "source": METHODS[name].source} for name in METHODS})
            return
        table = Table("method", "what it keeps", "source")
        for name in METHODS:
            table.add_row(name, METHODS[name].summary, METHODS[name].source)
        out.print(table)
