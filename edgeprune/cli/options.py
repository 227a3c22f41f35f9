"""Options that several commands share: one word, one meaning, one text."""

from __future__ import annotations

from typing import Annotated

import typer

Budgets = Annotated[
    list[str] | None, typer.Option("--budget", "-b", help="Repeat for several. [default: all of the bundle]")
]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="The question.")]
Size = Annotated[
    str | None, typer.Option(help="WIDTHxHEIGHT of the picture. [default: one that fills the largest tile grid]")
]
