"""Carry out a recipe: prune, where it says so, then export what is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgeprune.errors import PlanError
from edgeprune.plan import Budget
from edgeprune.recipe import Recipe, Structure
from edgeprune.recipe import RecipePart as RecipePart
from edgeprune.structure.plan import ModelPart
from edgeprune.structure.request import StructureRequest
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import require_free, working
from edgeprune_export.commands.export import export
from edgeprune_export.pruning.options import PruneOptions, Recovery
from edgeprune_export.pruning.prune import prune
from edgeprune_runtime.bundle import Bundle


def export_options(
    recipe: Recipe, *, budgets: tuple[Budget, ...] = (), parity: bool = True, force: bool = False, command: str = ""
) -> ExportOptions:
    """The recipe as options of an export; `budgets` given on the command line come first."""
    settings = recipe.export
    return ExportOptions(
        budgets=budgets or recipe.budgets(),
        plan=recipe.token_plan(),
        more_methods=recipe.tokens.methods,
        precision=settings.weights,
        chunk=settings.chunk,
        capacity=settings.capacity,
        text_tokens=settings.text_tokens,
        stage_chunk=settings.stage_chunk,
        stage_room=settings.stage_room,
        tiles=settings.tiles,
        sizes=settings.grids,
        tokens=settings.tokens,
        pictures=settings.max_images,
        controls=settings.controls,
        parity=parity,
        force=force,
        command=command,
    )


def prune_options(recipe: Recipe, folder: Path, *, force: bool = False, command: str = "") -> PruneOptions:
    """The recipe as options of pruning; paths start at `folder`. Raises PlanError where it asks for no pruning."""
    structure = recipe.structure
    if structure is None:
        raise PlanError("the recipe has no [structure]; add one, or export without pruning")
    recover = structure.recover
    return PruneOptions(
        requests=requests_of(structure),
        plan=None if structure.plan is None else folder / structure.plan,
        images=None if structure.images is None else folder / structure.images,
        pictures=structure.limit_images,
        seed=structure.seed,
        compensate=structure.compensate,
        recovery=None
        if recover is None
        else Recovery(recover.steps, recover.batch, recover.lora or None, recover.rate, seed=structure.seed),
        precision=recipe.export.weights,
        sizes=recipe.export.grids,
        tokens=recipe.export.tokens,
        force=force,
        command=command,
    )


def requests_of(structure: Structure) -> dict[ModelPart, StructureRequest]:
    parts: dict[ModelPart, RecipePart | None] = {"tower": structure.tower, "language": structure.language}
    return {part: wanted.request(structure.seed) for part, wanted in parts.items() if wanted is not None}


def export_recipe(
    source: str | Path,
    out: Path,
    recipe: Recipe,
    folder: Path,
    options: ExportOptions,
    *,
    track: Track = silent,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Bundle:
    """Prune into a hidden folder beside `out`, export from there, and remove it. `folder`: where the recipe lies."""
    if recipe.structure is None:
        return export(source, out, options, track=track, tell=tell)
    require_free(out, force=options.force)
    with working(out, f"pruned-{os.getpid()}", force=options.force) as hidden:
        pruned = hidden / Path(str(source)).name
        # An interrupted recovery is kept beside the bundle: the hidden folder goes.
        asked = replace(prune_options(recipe, folder, command=options.command), resume_beside=out)
        prune(source, pruned, asked, track=track)
        return export(pruned, out, options, track=track, tell=tell)
