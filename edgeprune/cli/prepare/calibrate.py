"""edgeprune calibrate: numbers that a method would draw from each picture, frozen into a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, command_line, emit, errors_as_one_line, out, track
from edgeprune.cli.extras import need_export


def calibrate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    method: Annotated[str, typer.Option("--method", "-m", help="A method that can be calibrated, or file.py:NAME.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures like those the model will see.")],
    pictures: Annotated[int, typer.Option(min=1, help="How many of them.")] = 32,
    seed: Annotated[int, typer.Option(help="Which of them: seed of the draw.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the method, as NAME=NUMBER.")] = None,
    to: Annotated[Path, typer.Option("--out", "-o", help="Plan to write, for `edgeprune export --plan`.")] = Path(
        "plan.json"
    ),
    json: Json = False,
) -> None:
    """Measure what METHOD's source decides per picture, and freeze it; an interrupted run goes on where it stopped."""
    with errors_as_one_line():
        need_export("torch", "transformers", "accelerate")
        from edgeprune.plan import settings_from_text
        from edgeprune.tokens.methods import METHODS
        from edgeprune_export.commands.calibrate import Calibrating
        from edgeprune_export.commands.calibrate import calibrate as measure
        from edgeprune_runtime.spec import TokenPlan

        plan = TokenPlan(method=METHODS.choose(method).name, settings=settings_from_text(set_ or []))
        how = Calibrating(images, pictures, seed, command_line())
        stored = measure(model, plan, how, to, track=track)
        if json:
            emit(stored)
            return
        for name, value in stored.statistics.items():
            out.print(f"measured {name}: {value:.4g} (mean of {stored.pictures} pictures)", highlight=False)
        for name, value in stored.settings.items():
            out.print(f"setting {name} = {value:g}", highlight=False)
        out.print(f"wrote {to}; use it with: edgeprune export {model} --budget 0.2 --plan {to}", highlight=False)
