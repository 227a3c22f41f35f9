"""edgeprune prune: heads, channels and blocks leave; a smaller checkpoint or ONNX file stays."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import Json, activity, command_line, emit, errors_as_one_line, out, remark, track
from edgeprune.cli.extras import need_export
from edgeprune.cli.options import (
    Force,
    LimitImages,
    Seed,
    alone,
    given,
    grid_option,
    images_option,
    out_option,
    recipe_option,
    sizes_from_texts,
    tokens_option,
    weights_option,
)
from edgeprune.cli.tables import columns, show_table
from edgeprune.errors import PlanError
from edgeprune_runtime.spec import WeightPrecision

if TYPE_CHECKING:
    from edgeprune_export.pruning.record import PruneRecord

_COMMON = ("to", "seed", "compensate", "force", "json")
_BESIDE = {"lora": "recover", "rate": "recover", "batch": "recover", "block_importance": "blocks"}
"""Options that mean something beside another only."""
_STORED = ("latency", "energy", "memory")  # measures that depend on how weights are stored
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--structure",
        "-s",
        help="Target: params=0.7, macs=0.7, latency=0.7 or energy=0.7 (predicted, on this machine), or memory=2GiB, of every part, "
        "or of one: tower.macs=0.7, language.params=0.8. Repeat for several.",
    ),
]


def prune(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="Folder or hub id of a vision-language checkpoint, a ViT classifier, or an .onnx file."),
    ],
    structure: Targets = None,
    recipe: Annotated[Path | None, recipe_option()] = None,
    to: Annotated[Path | None, out_option("MODEL-pruned")] = None,
    importance: Annotated[
        str, typer.Option("--importance", help="What decides which units stay; see `edgeprune importances`.")
    ] = "taylor",
    allocation: Annotated[
        str, typer.Option(help="How much each layer gives up: uniform, global, module or slope.")
    ] = "global",
    normalise: Annotated[str, typer.Option(help="Make scores of layers compare: none, layer or module.")] = "none",
    align: Annotated[int, typer.Option(min=1, help="MLP widths stay multiples of this many channels.")] = 64,
    blocks: Annotated[
        list[str] | None, typer.Option("--blocks", help="Whole blocks that leave first: tower=1, language=2.")
    ] = None,
    block_importance: Annotated[str, typer.Option(help="Which blocks: similarity, removal or visual.")] = "similarity",
    images: Annotated[Path | None, images_option()] = None,
    limit_images: LimitImages = 64,
    grid: Annotated[list[str] | None, grid_option()] = None,
    tokens: Annotated[int | None, tokens_option()] = None,
    seed: Seed = 0,
    compensate: Annotated[bool, typer.Option(help="Refit what stays by least squares.")] = True,
    recover: Annotated[
        int, typer.Option(min=0, help="Training steps towards the unpruned model afterwards, on all of --images.")
    ] = 0,
    lora: Annotated[int, typer.Option(min=0, help="Rank of adapters for --recover; 0 trains all weights.")] = 0,
    rate: Annotated[float, typer.Option(help="Learning rate of --recover.")] = 1e-4,
    batch: Annotated[int, typer.Option(min=1, help="Samples per step of --recover.")] = 16,
    structure_plan: Annotated[
        Path | None,
        typer.Option("--structure-plan", help="Repeat the choice of a structure.json instead of choosing."),
    ] = None,
    weights: Annotated[WeightPrecision, weights_option()] = "fp32",
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Shape of the input of an .onnx file whose own is symbolic: 1,3,224,224; of several inputs NAME=1,3,224,224, "
            "repeated. -1 keeps the batch symbolic."
        ),
    ] = None,
    input_value: Annotated[
        list[str] | None,
        typer.Option(
            help="Value of an input of one element of an .onnx file, NAME=16000, which is a constant from now on; repeated for several."
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Remove head groups, MLP channels and blocks of MODEL for good, and write what is left as a smaller checkpoint.

    --weights says what latency, energy and memory targets are predicted for; an .onnx file becomes a smaller .onnx file.
    """
    with errors_as_one_line(), activity("reading what was asked"):
        if model.endswith(".onnx"):
            need_export("onnx", "onnx_ir")
            from edgeprune.cli.prepare.prune_onnx import prune_file

            mine = ("model", "structure", "importance", "align", "images", "input_shape", "input_value", *_COMMON)
            alone(context, "model in ONNX", besides=mine)
            prune_file(
                Path(model),
                to or Path(f"{Path(model).stem}-pruned.onnx"),
                structure=structure or [],
                importance=importance if given(context, "importance") else None,
                align=align if given(context, "align") else None,
                inputs=images,
                input_shapes=input_shape or [],
                input_values=input_value or [],
                seed=seed,
                compensate=compensate if given(context, "compensate") else None,
                force=force,
                json=json,
            )
            return
        for option, texts in (("--input-shape", input_shape), ("--input-value", input_value)):
            if texts:
                raise PlanError(f"{option} is for .onnx files, {model} is none; leave it out")
        need_export("torch", "transformers", "onnx", "onnx_ir", "accelerate", "safetensors")
        from edgeprune_export.pruning.options import PruneOptions, Recovery
        from edgeprune_export.pruning.prune import prune as make

        if recipe is not None:
            alone(context, "recipe", besides=("model", "to", "force", "json"))
            from edgeprune.recipe import read_recipe
            from edgeprune_export.commands.recipes import prune_options

            options = prune_options(read_recipe(recipe), recipe.parent, force=force, command=command_line())
        else:
            from edgeprune.structure.request import StructureRequest
            from edgeprune.structure.targets import blocks_from_texts, targets_from_texts
            from edgeprune_export.pruning.open import parts_of

            parts = parts_of(model)
            targets = targets_from_texts(structure or [], parts)
            refuse_ignored(context, {one.measure for one in targets.values()})
            leaving = blocks_from_texts(blocks or [], parts, targets)
            options = PruneOptions(
                requests={
                    part: StructureRequest(
                        target=wanted,
                        importance=importance,
                        allocation=allocation,
                        normalise=normalise,
                        align=align,
                        blocks=leaving.get(part, 0),
                        block_importance=block_importance,
                        seed=seed,
                    )
                    for part, wanted in targets.items()
                },
                plan=structure_plan,
                images=images,
                pictures=limit_images,
                seed=seed,
                compensate=compensate,
                recovery=Recovery(recover, batch, lora or None, rate, seed=seed) if recover else None,
                precision=weights,
                sizes=sizes_from_texts(grid),
                tokens=tokens,
                force=force,
                command=command_line(),
            )
        target = to or Path(f"{Path(model).name}-pruned")
        record = make(model, target, options, track=track)
        if json:
            emit({"checkpoint": str(target), "record": record})
            return
        _show(record, target)


def _show(record: PruneRecord, target: Path) -> None:
    """What every block has left, and what was reached."""
    from edgeprune.models.source import is_classifier
    from edgeprune_runtime.installed import command

    for part, done in record.parts.items():
        rows = [(str(b.block), str(len(b.heads)), str(len(b.mlp))) for b in done.blocks]
        show_table(f"{part}: what stays", columns(("block", "head groups", "MLP channels")), rows)
        if done.target is not None and done.before and done.after:
            measure = done.target.partition("=")[0]
            out.print(
                f"{part}: {done.target} asked, {done.after / done.before:.3f} reached: {amount(measure, done.before)} -> "
                f"{amount(measure, done.after)}",
                highlight=False,
            )
    kind = "noise pictures" if record.noise else "samples"
    seen = f"calibrated on {record.samples} {kind}, seed {record.seed}" if record.samples else "no calibration"
    steps = f", {record.recovery['steps']} recovery steps" if record.recovery else ""
    out.print(f"{seen}{', compensated' if record.compensated else ''}{steps}", highlight=False)
    if not record.compensated and record.recovery is None:
        remark("what stays was not refitted; give --images for compensation and --recover for training", "warning:")
    budget = () if is_classifier(target) else ("--budget", 0.2)
    out.print(f"wrote {target}; export it with: {command('edgeprune', 'export', target, *budget)}", highlight=False)


def amount(measure: str, value: float) -> str:
    """A number with the unit of its measure."""
    if measure == "memory":
        return f"{value / 2**20:.1f} MiB"
    if measure == "latency":
        return f"{value * 1e3:.2f} ms (predicted)"
    if measure == "energy":
        return f"{value * 1e3:.2f} mJ (predicted)"
    return f"{value / 1e6:.2f} M {measure}"


def refuse_ignored(context: typer.Context, measures: Collection[str]) -> None:
    """Options that would change nothing are refused; `measures` are those of the targets. Raises PlanError."""
    for name, other in _BESIDE.items():
        if given(context, name) and not given(context, other):
            raise PlanError(f"--{name.replace('_', '-')} means nothing without --{other}; add that or leave it out")
    choosing = ("structure", "blocks", "importance", "allocation", "normalise", "align", "weights")
    if given(context, "structure_plan") and (clash := next((name for name in choosing if given(context, name)), None)):
        raise PlanError(f"--structure-plan repeats a choice, --{clash} is for a new one; give one of them")
    if given(context, "weights") and not set(_STORED) & set(measures):
        raise PlanError(f"--weights means something for {', '.join(_STORED)} targets only; leave it out")
