"""edgeprune calibrate: numbers that a method would draw from each picture, frozen into a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, activity, command_line, emit, errors_as_one_line, out, track
from edgeprune.cli.extras import need_export
from edgeprune.cli.options import (
    Force,
    LimitImages,
    MethodSettings,
    Seed,
    grid_option,
    images_option,
    method_option,
    out_option,
    sizes_from_texts,
    tokens_option,
)


def calibrate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    method: Annotated[str, method_option()],
    images: Annotated[Path, images_option()],
    limit_images: LimitImages = 32,
    grid: Annotated[list[str] | None, grid_option()] = None,
    tokens: Annotated[int | None, tokens_option()] = None,
    seed: Seed = 0,
    set_: MethodSettings = None,
    to: Annotated[Path, out_option()] = Path("settings.json"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure what METHOD's source decides per picture, and freeze it; an interrupted run goes on where it stopped.

    What is written is for `edgeprune export --settings`.
    """
    with errors_as_one_line(), activity("reading what was asked"):
        need_export("torch", "transformers", "accelerate")
        from edgeprune.plan import settings_from_text
        from edgeprune.tokens.methods import METHODS
        from edgeprune_export.commands.calibrate import Calibrating
        from edgeprune_export.commands.calibrate import calibrate as measure
        from edgeprune_runtime.claims import require_new
        from edgeprune_runtime.installed import command
        from edgeprune_runtime.spec import TokenPlan

        require_new(to, force=force)
        plan = TokenPlan(method=METHODS.choose(method).name, settings=settings_from_text(set_ or []))
        how = Calibrating(images, limit_images, seed, sizes_from_texts(grid), tokens, command_line())
        stored = measure(model, plan, how, to, track=track)
        if json:
            emit(stored)
            return
        for name, value in stored.statistics.items():
            out.print(f"measured {name}: {value:.4g} (mean of {stored.pictures} pictures)", highlight=False)
        for name, value in stored.settings.items():
            out.print(f"setting {name} = {value:g}", highlight=False)
        step = command("edgeprune", "export", model, "--budget", 0.2, "--settings", to)
        out.print(f"wrote {to}; use it with: {step}", highlight=False)
