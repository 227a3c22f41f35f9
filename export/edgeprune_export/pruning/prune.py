"""Checkpoint and requests in, smaller checkpoint out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

import msgspec
import torch

from edgeprune.errors import ExportError, PlanError
from edgeprune.models.grids import Sizes
from edgeprune.structure.allocate import ALLOCATIONS
from edgeprune.structure.importance import BLOCK_IMPORTANCES, IMPORTANCES
from edgeprune.structure.normalise import NORMALISATIONS
from edgeprune.structure.plan import BlockPlan, ModelPart, StructurePlan, check_plan, in_words
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.shrink import shrink
from edgeprune.structure.statistics import StatisticNeed
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import publish, staging
from edgeprune_export.graphs.linear import WeightPrecision
from edgeprune_export.pruning.calibration_stats import collect_statistics, removal_losses
from edgeprune_export.pruning.choose import PlanWithCost, choose
from edgeprune_export.pruning.open import OpenedModel, open_prunable
from edgeprune_export.pruning.prices.energy import sensor
from edgeprune_export.pruning.prices.terms import price_of
from edgeprune_export.pruning.prunable import PrunableModel
from edgeprune_export.pruning.record import SCHEMA, PartRecord, PruneRecord, read_record
from edgeprune_export.pruning.recover import Recovery, recover
from edgeprune_export.pruning.refit import compensate
from edgeprune_export.pruning.samples import samples_from
from edgeprune_export.pruning.write import STRUCTURE, fingerprint, write_checkpoint
from edgeprune_runtime.registry import unknown


@dataclass(frozen=True)
class PruneOptions:
    """What to do to a checkpoint.

    requests    per part that is to become smaller
    plan        a structure.json whose choice is repeated instead of choosing anew
    images      samples (see `samples_from`): `pictures` of them calibrate, all of them teach recovery; None: noise, where that is allowed
    sizes, tokens  grids of pictures where the model takes any size, as for `open_checkpoint`: calibration and targets are for these
    compensate  refit what stays by least squares
    resume_beside  what an interrupted recovery is kept next to; None: `out`
    """

    requests: Mapping[ModelPart, StructureRequest] = field(default_factory=dict)
    plan: Path | None = None
    images: Path | None = None
    pictures: int = 64
    seed: int = 0
    compensate: bool = True
    recovery: Recovery | None = None
    precision: str = "fp32"
    sizes: Sizes | None = None
    tokens: int | None = None
    force: bool = False
    resume_beside: Path | None = None
    command: str = "edgeprune_export.pruning.prune"


def prune(source: str | Path, out: Path, options: PruneOptions, *, track: Track = silent) -> PruneRecord:
    """Write the pruned checkpoint `out`. Nothing is left behind on any error. Raises CheckpointError, PlanError or ExportError."""
    if not options.requests and options.plan is None:
        raise PlanError(
            "nothing is asked of any part; give a target such as --structure tower.params=0.7, or --structure-plan"
        )
    if options.requests and options.plan is not None:
        raise PlanError("a plan repeats a choice and targets ask for a new one; give one of them")
    with staging(out, force=options.force, marker=STRUCTURE) as folder:
        opened = open_prunable(
            source,
            options.images,
            options.pictures,
            options.seed,
            options.precision,
            sizes=options.sizes,
            tokens=options.tokens,
        )
        _check(opened, options)
        prunable = opened.load()
        with track("reading the checkpoint", 1) as advance:
            made_for = fingerprint(opened.path)
            advance()
        chosen = _chosen(opened, prunable, options, made_for, track)
        smaller = shrink(prunable.module, prunable.specs, chosen.plan)
        specs = prunable.pruned(chosen.plan)
        compensated = options.compensate and (options.images is not None or _on_noise(options))
        if compensated:
            compensate(prunable, smaller, specs, chosen.plan, track)
        if options.recovery is not None:
            beside = options.resume_beside or out
            state = beside.with_name(f".{beside.name}.recovery-{made_for[:12]}.safetensors")
            everything = prunable.over(samples_from(options.images, None, options.seed)) if options.images else prunable
            smaller = recover(everything, smaller, chosen.plan, options.recovery, state, track)
        if not all(bool(torch.isfinite(p).all()) for p in smaller.parameters()):
            raise ExportError(
                "the pruned model holds NaN or infinity; calibrate on other pictures or with --no-compensate"
            )
        calibrated = compensated or options.recovery is not None or any(map(_needs, options.requests.values()))
        record = _record(opened, options, chosen, made_for, calibrated, compensated)
        texts = {"config.json": prunable.config(chosen.plan, smaller), **prunable.files()}
        write_checkpoint(opened.path, folder, smaller, texts, prunable.stored, record)
        opened.verify(folder, specs)
        publish(folder, out)
    return record


def _check(opened: OpenedModel, options: PruneOptions) -> None:
    """Everything that can be refused before any work."""
    if options.pictures < 1:
        raise PlanError(f"calibration on {options.pictures} pictures is impossible; give a number from 1")
    if options.precision not in get_args(WeightPrecision):
        raise PlanError(unknown("precision", options.precision, get_args(WeightPrecision)))
    for part, request in options.requests.items():
        if part not in opened.specs:
            raise PlanError(f"the model has no {part}; it has {', '.join(opened.specs)}")
        spec, count = opened.specs[part]
        bound = sorted(spec.must_stay.intersection(range(count)))
        most = count - max(len(bound), 1)
        if not 0 <= request.blocks <= most:
            why = f": the model needs {in_words(bound)}" if bound else ""
            raise PlanError(
                f"{request.blocks} of {count} blocks of the {part} cannot leave{why}; give a number from 0 to {most}"
            )
        if request.align < 1:
            raise PlanError(
                f"channels of the {part} cannot be aligned to {request.align}; give --align a number from 1"
            )
        if request.target.measure == "energy":
            sensor()
        NORMALISATIONS.get(request.normalise)
        importance, block = IMPORTANCES[request.importance], BLOCK_IMPORTANCES[request.block_importance]
        for name, parts in (
            (importance.name, importance.parts),
            *([(block.name, block.parts)] if request.blocks else []),
        ):
            if part not in parts:
                some = ", ".join(one for one in IMPORTANCES if part in IMPORTANCES[one].parts)
                raise PlanError(f"{name} says nothing about the {part}; choose one of {some}")
        allocation = ALLOCATIONS.get(request.allocation)
        wanting = [
            *([importance.name] if importance.needs else []),
            *([block.name] if request.blocks else []),
            *([allocation.name] if allocation.gradients else []),
        ]
        if options.images is None and not importance.noise and wanting:
            raise PlanError(
                f"{wanting[0]} for the {part} is measured on pictures; give a folder of pictures like those the model will see with "
                "--images, or choose what does without: magnitude, dimap or obs, and neither --blocks nor slope"
            )
    if options.recovery is not None and options.images is None:
        raise PlanError("recovery learns on pictures; give a folder of them with --images")


def _needs(request: StructureRequest) -> frozenset[StatisticNeed]:
    block = BLOCK_IMPORTANCES[request.block_importance].needs if request.blocks else frozenset[StatisticNeed]()
    gradients: frozenset[StatisticNeed] = frozenset({"gradients"} if ALLOCATIONS[request.allocation].gradients else ())
    return IMPORTANCES[request.importance].needs | block | gradients


def _on_noise(options: PruneOptions) -> bool:
    return bool(options.requests) and all(
        IMPORTANCES[request.importance].noise for request in options.requests.values()
    )


def _chosen(
    opened: OpenedModel, prunable: PrunableModel, options: PruneOptions, made_for: str, track: Track
) -> PlanWithCost:
    if options.plan is not None:
        record = read_record(options.plan)
        if record.source_sha256 != made_for:
            raise PlanError(
                f"{options.plan} was made for another checkpoint ({record.source}, {record.source_sha256[:12]}...; this one is "
                f"{made_for[:12]}...); make a plan for this one"
            )
        plan = StructurePlan({part: one.blocks for part, one in record.parts.items()})
        check_plan(plan, prunable.specs)
        return PlanWithCost(plan)
    prices = {
        part: price_of(request.target.measure, opened.specs[part][0], opened.terms, track)
        for part, request in options.requests.items()
    }
    statistics = collect_statistics(
        prunable, frozenset().union(*(_needs(request) for request in options.requests.values())), track
    )
    scores = {}
    for part, request in options.requests.items():
        block = BLOCK_IMPORTANCES[request.block_importance]
        if request.blocks and block.score is None:
            scores[part] = removal_losses(prunable, part, track)
        elif request.blocks and block.score is not None:
            count = prunable.specs[part][1]
            scores[part] = [block.score(statistics.block(part, i)) for i in range(count)]
    return choose(prunable.module, prunable.specs, options.requests, prices, statistics, scores)


def _record(
    opened: OpenedModel, options: PruneOptions, chosen: PlanWithCost, made_for: str, calibrated: bool, compensated: bool
) -> PruneRecord:
    predicted = {prediction.part: prediction for prediction in chosen.predictions}
    parts = {}
    for part, blocks in chosen.plan.blocks.items():
        request, prediction = options.requests.get(part), predicted.get(part)
        parts[part] = PartRecord(
            blocks=tuple(BlockPlan(b.block, b.heads, b.mlp) for b in blocks),
            target=None if request is None else request.target.label,
            before=None if prediction is None else prediction.before,
            after=None if prediction is None else prediction.after,
            importance=None if request is None else request.importance,
            allocation=None if request is None else request.allocation,
            normalise=None if request is None else request.normalise,
        )
    return PruneRecord(
        schema=SCHEMA,
        source=opened.path.name,
        source_sha256=made_for,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=options.command,
        parts=parts,
        samples=len(opened.samples) if calibrated else 0,
        noise=calibrated and options.images is None,
        seed=options.seed,
        compensated=compensated,
        recovery=None if options.recovery is None else msgspec.to_builtins(options.recovery),
    )
