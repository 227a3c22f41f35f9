"""Options with a fixed set of values, shared by commands. Those of a token plan are in `edgeprune_runtime.spec`."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Annotated

import typer


class Precision(str, Enum):
    fp32 = "fp32"
    int8 = "int8"


class EnginePrecisionName(str, Enum):
    """Arithmetic that a GPU computes a bundle in."""

    fp16 = "fp16"
    bf16 = "bf16"
    fp32 = "fp32"


def tiles_from_text(text: str) -> int | None:
    """A number of tiles, or None for "none"."""
    if text == "none":
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is no number of tiles; give 0, 1, 2 and so on, or none")
    return int(text)


#: How many tiles of a picture are looked at.
Tiles = Annotated[
    int | None,
    typer.Option(
        parser=tiles_from_text,
        metavar="N|none",
        help="Show a picture on at most N tiles beside its overview, 0: on one. [default: none, no limit but the model's]",
    ),
]


def given(context: typer.Context, name: str) -> bool:
    """True for an option that stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def alone(context: typer.Context, option: str, besides: Collection[str]) -> None:
    """Refuse options on the command line that have no meaning beside `option`: what a recipe says, what a classifier has not."""
    for name in context.params:
        if given(context, name) and name not in (option, *besides):
            spelled = name.rstrip("_").replace("_", "-")
            raise typer.BadParameter(f"--{spelled} cannot be given with a {option}; leave one of them out")
