"""Measure, choose, cut, refit, train and write: a pruned checkpoint in a folder that is not published yet."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import msgspec
import torch

from edgeprune.errors import ExportError, PlanError
from edgeprune.structure.allocate import ALLOCATIONS
from edgeprune.structure.importance import BLOCK_IMPORTANCES, IMPORTANCES
from edgeprune.structure.plan import BlockPlan, StructurePlan, check_plan
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.shrink import shrink
from edgeprune.structure.statistics import StatisticNeed
from edgeprune_export.bundle.progress import Track
from edgeprune_export.pruning.calibration_stats import collect_statistics, removal_losses
from edgeprune_export.pruning.choose import PlanWithCost, choose
from edgeprune_export.pruning.open import OpenedModel
from edgeprune_export.pruning.options import PruneOptions
from edgeprune_export.pruning.prices.terms import price_of
from edgeprune_export.pruning.prunable import PrunableModel
from edgeprune_export.pruning.record import SCHEMA, PartRecord, PruneRecord, read_record
from edgeprune_export.pruning.recover import recover
from edgeprune_export.pruning.refit import compensate
from edgeprune_export.pruning.samples import samples_from
from edgeprune_export.pruning.write import fingerprint, write_checkpoint


def carry_out(opened: OpenedModel, options: PruneOptions, folder: Path, beside: Path, track: Track) -> PruneRecord:
    """Write the pruned checkpoint into `folder`. Raises PlanError or ExportError.

    beside  what an interrupted recovery is kept next to
    """
    with track("reading the checkpoint", 0):
        prunable = opened.load()
        made_for = fingerprint(opened.path)
    chosen = _chosen(opened, prunable, options, made_for, track)
    with track("shrinking", 0):
        smaller = shrink(prunable.module, prunable.specs, chosen.plan)
    specs = prunable.pruned(chosen.plan)
    compensated = options.compensate and (options.images is not None or _on_noise(options))
    if compensated:
        compensate(prunable, smaller, specs, chosen.plan, track)
    if options.recovery is not None:
        state = beside.with_name(f".{beside.name}.recovery-{made_for[:12]}.safetensors")
        everything = prunable.over(samples_from(options.images, None, options.seed)) if options.images else prunable
        smaller = recover(everything, smaller, chosen.plan, options.recovery, state, track)
    if not all(bool(torch.isfinite(p).all()) for p in smaller.parameters()):
        raise ExportError("the pruned model holds NaN or infinity; calibrate on other pictures or with --no-compensate")
    calibrated = compensated or options.recovery is not None or any(map(_needs, options.requests.values()))
    record = _record(opened, options, chosen, made_for, calibrated, compensated)
    texts = {"config.json": prunable.config(chosen.plan, smaller), **prunable.files()}
    with track("writing the checkpoint", 0):
        write_checkpoint(opened.path, folder, smaller, texts, prunable.stored, record)
        opened.verify(folder, specs)
    return record


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
