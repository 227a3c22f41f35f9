"""Options with a fixed set of values, shared by commands. Those of a token plan are in `edgeprune_runtime.spec`."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

import typer


class Precision(str, Enum):
    fp32 = "fp32"
    int8 = "int8"


class EnginePrecisionName(str, Enum):
    """Arithmetic that a GPU computes a bundle in."""

    fp16 = "fp16"
    bf16 = "bf16"
    fp32 = "fp32"


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
