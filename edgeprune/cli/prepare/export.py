"""edgeprune export: a checkpoint becomes a sealed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeprune.cli.complete import family_names_like
from edgeprune.cli.console import Json, activity, command_line, emit, errors_as_one_line, note, out, remark, track
from edgeprune.cli.extras import need_export
from edgeprune.cli.options import (
    Force,
    MethodSettings,
    alone,
    budget_option,
    grid_option,
    inside_option,
    method_option,
    out_option,
    positions_option,
    recipe_option,
    separators_option,
    sizes_from_texts,
    tiles_option,
    tokens_option,
    weights_option,
)
from edgeprune_runtime.spec import BudgetBase, Positions, Separators, TokenPlan, WeightPrecision

if TYPE_CHECKING:
    from edgeprune.models.families import Family
    from edgeprune.plan import Budget
    from edgeprune_runtime.bundle import Bundle


def export(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder (Hugging Face layout) or hub id of a vision-language model; or a ViT classifier, without a budget."
        ),
    ],
    budget: Annotated[list[str] | None, budget_option()] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help="The largest budget that meets a target on a board, projected, as the first budget: device=orin-nano-8gb,ttft=1s "
            "(and tokens-per-s=10)."
        ),
    ] = None,
    recipe: Annotated[Path | None, recipe_option()] = None,
    to: Annotated[Path | None, out_option("MODEL.bundle")] = None,
    method: Annotated[list[str] | None, method_option("hired where it fits, else divprune", several=True)] = None,
    set_: MethodSettings = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="Method and settings from `edgeprune calibrate`.")
    ] = None,
    inside: Annotated[list[str] | None, inside_option()] = None,
    weights: Annotated[WeightPrecision, weights_option()] = "fp32",
    positions: Annotated[Positions, positions_option()] = "keep",
    separators: Annotated[Separators, separators_option()] = "all",
    budget_of: Annotated[
        BudgetBase,
        typer.Option(
            help="A ratio counts from the largest tile grid (one K for all pictures) or from each picture's own."
        ),
    ] = "largest",
    chunk: Annotated[int, typer.Option(min=1, help="Positions per run of the prefill graph.")] = 128,
    capacity: Annotated[
        int | None, typer.Option(help="Positions of the KV cache.", show_default="the largest prompt + --text-tokens")
    ] = None,
    text_tokens: Annotated[
        int, typer.Option(min=1, help="Room for question and answer when --capacity is not given.")
    ] = 512,
    stage_chunk: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The same as --chunk behind a cut inside the language model.",
            show_default="--chunk, at most 64",
        ),
    ] = None,
    stage_room: Annotated[
        Literal["all", "kept"],
        typer.Option(
            help="Positions of the KV cache behind a cut: for all rows (so that none need leave) or for those that stay."
        ),
    ] = "all",
    tiles: Annotated[int | None, tiles_option()] = None,
    grid: Annotated[list[str] | None, grid_option()] = None,
    tokens: Annotated[int | None, tokens_option()] = None,
    max_images: Annotated[
        int, typer.Option("--max-images", min=1, help="Room for so many pictures in one prompt.")
    ] = 1,
    family: Annotated[
        str | None,
        typer.Option(
            help="How MODEL is read: a family's name, or file.py:NAME.",
            show_default="what its config.json says",
            autocompletion=family_names_like,
        ),
    ] = None,
    controls: Annotated[
        bool, typer.Option(help="Include random, uniform and downsample at the same K (a few hundred KB), for eval.")
    ] = True,
    parity: Annotated[
        bool, typer.Option(help="Hold the graphs against transformers before sealing; switching it off is recorded.")
    ] = True,
    force: Force = False,
    json: Json = False,
) -> None:
    """Export MODEL to a sealed bundle of static-shape ONNX graphs under one or more token budgets.

    Repeat --budget and --method for several; the first of each is the default of the bundle.
    """
    with errors_as_one_line(), activity("reading what was asked"):
        need_export("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "accelerate")
        from edgeprune.models.source import is_classifier
        from edgeprune.plan import budget_from_text

        if is_classifier(model):
            alone(context, "classifier", besides=("model", "to", "inside", "weights", "parity", "force", "json"))
            _classifier(model, to or Path(f"{Path(model).name}-onnx"), inside or [], weights, parity, force, json)
            return
        target = to or Path(f"{Path(model).name}.bundle")
        budgets = tuple(budget_from_text(text) for text in budget or [])
        if recipe is not None:
            alone(context, "recipe", besides=("model", "budget", "to", "parity", "force", "json"))
            _show(_from_recipe(model, target, recipe, budgets, parity=parity, force=force), target, json)
            _note_videos(model)
            return
        from edgeprune.models.families import FAMILIES

        kind = None if family is None else FAMILIES.choose(family)
        sizes = sizes_from_texts(grid)
        if fit is not None:
            budgets = tuple(
                dict.fromkeys((_fitted(model, fit, weights, chunk, (tiles, sizes, tokens), kind), *budgets))
            )
        if not budgets:
            raise typer.BadParameter("give at least one --budget, a --fit, or a --recipe")
        from edgeprune.plan import settings_from_text
        from edgeprune.settings_file import read_settings, with_calibrated
        from edgeprune.tokens.inside.text import inside_from_texts
        from edgeprune.tokens.methods import METHODS
        from edgeprune_export.bundle.options import ExportOptions
        from edgeprune_export.commands.export import export as make

        names, settings = with_calibrated(
            None if settings_file is None else read_settings(settings_file),
            method or [],
            settings_from_text(set_ or []),
        )
        chosen = [METHODS.choose(name).name for name in names]
        options = ExportOptions(
            budgets=budgets,
            plan=TokenPlan(
                chosen[0] if chosen else None,
                settings,
                positions,
                separators,
                budget_of,
                inside_from_texts(inside or []),
            ),
            more_methods=tuple(chosen[1:]),
            precision=weights,
            chunk=chunk,
            capacity=capacity,
            text_tokens=text_tokens,
            stage_chunk=stage_chunk,
            stage_room=stage_room,
            tiles=tiles,
            sizes=sizes,
            tokens=tokens,
            pictures=max_images,
            family=kind,
            controls=controls,
            parity=parity,
            force=force,
            command=command_line(),
        )
        _show(make(model, target, options, track=track, tell=remark), target, json)
        _note_videos(model)


def _from_recipe(
    model: str, target: Path, path: Path, budgets: tuple[Budget, ...], *, parity: bool, force: bool
) -> Bundle:
    from edgeprune.recipe import read_recipe
    from edgeprune_export.commands.recipes import export_options, export_recipe

    recipe = read_recipe(path)
    options = export_options(recipe, budgets=budgets, parity=parity, force=force, command=command_line())
    return export_recipe(model, target, recipe, path.parent, options, track=track, tell=remark)


def _fitted(
    model: str,
    text: str,
    stored: WeightPrecision,
    chunk: int,
    pictures: tuple[int | None, tuple[tuple[int, int], ...] | None, int | None],
    family: Family | None,
) -> Budget:
    """The largest budget that meets --fit, with a sentence about it."""
    from edgeprune.models.checkpoint import open_checkpoint
    from edgeprune.plan import budget_from_text
    from edgeprune_export.bundle.counts import count_spec
    from edgeprune_profiles.boards.fit_budget import fit_target_from_text, fitted_budget
    from edgeprune_profiles.report import units

    asked, spec = fit_target_from_text(text), open_checkpoint(model, family, *pictures).spec
    found = fitted_budget(
        asked, spec.source, spec.picture, stored, chunk, lambda keep: count_spec(spec, stored, chunk, keep)
    )
    time = found.ttft_s
    note(
        f"budget {found.budget}: the largest of {found.candidates} visual tokens for {text}; projected, not measured: first token after "
        f"{units.seconds(time.point)} [{units.seconds(time.low)}, {units.seconds(time.high)}]"
    )
    return budget_from_text(found.budget)


def _classifier(
    model: str, target: Path, inside: list[str], weights: WeightPrecision, parity: bool, force: bool, json: bool
) -> None:
    from edgeprune.tokens.inside.text import inside_from_texts
    from edgeprune.tokens.inside.tower.plan.words import rows_in_words
    from edgeprune_export.commands.export_classifier import export_classifier

    plan = inside_from_texts(inside)
    made = export_classifier(model, target, precision=weights, inside=plan, parity=parity, force=force, track=track)
    spec, checks = made.graph, made.parity
    if json:
        emit({"folder": str(target), "graph": spec, "parity": checks, "macs": made.macs, "tokens": made.tokens})
        return
    if plan:
        for line in rows_in_words(made.tokens):
            out.print(line, highlight=False)
        whole, cut = made.macs
        out.print(
            f"{whole / 1e9:.3g} -> {cut / 1e9:.3g} GMACs per picture: {whole / cut:.2f} times fewer", highlight=False
        )
    out.print(f"parity: {len(checks)} checks against transformers passed" if checks else "parity: switched off")
    out.print(
        f"wrote {target / spec.file}: pixels {spec.inputs[0].shape} -> logits {spec.outputs[0].shape}", highlight=False
    )


def _note_videos(model: str) -> None:
    from edgeprune.models.config.video import still_pictures_only

    if sentence := still_pictures_only(model):
        remark(sentence)


def _show(bundle: Bundle, target: Path, json: bool) -> None:
    from edgeprune_runtime.installed import command

    manifest = bundle.manifest
    total = sum(entry.bytes for entry in manifest.files.values())
    if json:
        emit(
            {
                "bundle": str(target),
                "sha256": bundle.sha256,
                "bytes": total,
                "selections": manifest.selections,
                "parity": manifest.parity,
            }
        )
        return
    for text in dict.fromkeys(s.budget for s in manifest.selections):
        counts = sorted({s.keep for s in manifest.selections if s.budget == text})
        out.print(f"budget {text}: {' or '.join(str(k) for k in counts)} visual tokens")
    if manifest.parity.skipped:
        remark(f"the parity gate did not run: {manifest.parity.skipped}", "warning:")
    else:
        out.print(f"parity: {len(manifest.parity.checks)} checks against {manifest.parity.reference} passed")
    out.print(f"sealed {target}  ({total / 1e6:.1f} MB, {len(manifest.graphs)} graphs)")
    step = command("edgeprune", "run", target, "--image", "photo.jpg", "--prompt", "What is this?")
    out.print(f"try: {step}", highlight=False)
