"""Checkpoint and wishes in, smaller checkpoint out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

import msgspec
import torch

from edgeprune.errors import ExportError, PlanError
from edgeprune.structure.allocate import ALLOCATIONS
from edgeprune.structure.importance import BLOCK_IMPORTANCES, IMPORTANCES
from edgeprune.structure.normalise import NORMALISATIONS
from edgeprune.structure.plan import BlockPlan, ModelPart, StructurePlan, check_plan
from edgeprune.structure.shrink import shrink
from edgeprune.structure.statistics import Need
from edgeprune.structure.wish import StructureRequest
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import publish, staging
from edgeprune_export.graphs.linear import WeightPrecision
from edgeprune_export.pruning.calibration_stats import collect_statistics, removal_losses
from edgeprune_export.pruning.choose import PlanWithCost, choose
from edgeprune_export.pruning.open import OpenedModel, open_subject
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

    wishes      per part that is to become smaller
    plan        a structure.json whose choice is repeated instead of choosing anew
    images      samples (see `samples_from`): `pictures` of them calibrate, all of them teach recovery; None: noise, where that is allowed
    compensate  refit what stays by least squares
    beside      what an interrupted recovery is kept next to; None: `out`
    """

    wishes: Mapping[ModelPart, StructureRequest] = field(default_factory=dict)
    plan: Path | None = None
    images: Path | None = None
    pictures: int = 64
    seed: int = 0
    compensate: bool = True
    recovery: Recovery | None = None
    precision: str = "fp32"
    force: bool = False
    beside: Path | None = None
    command: str = "edgeprune_export.pruning.prune"


def prune(source: str | Path, out: Path, options: PruneOptions, *, track: Track = silent) -> PruneRecord:
    """Write the pruned checkpoint `out`. Nothing is left behind on any error. Raises CheckpointError, PlanError or ExportError."""
    if not options.wishes and options.plan is None:
        raise PlanError(
            "nothing is asked of any part; give a target such as --structure tower.params=0.7, or --structure-plan"
        )
    if options.wishes and options.plan is not None:
        raise PlanError("a plan repeats a choice and targets ask for a new one; give one of them")
    with staging(out, force=options.force, marker=STRUCTURE) as folder:
        opened = open_subject(source, options.images, options.pictures, options.seed, options.precision)
        _check(opened, options)
        subject = opened.load()
        with track("reading the checkpoint", 1) as advance:
            made_for = fingerprint(opened.path)
            advance()
        chosen = _chosen(opened, subject, options, made_for, track)
        smaller = shrink(subject.module, subject.specs, chosen.plan)
        specs = subject.pruned(chosen.plan)
        compensated = options.compensate and (options.images is not None or _on_noise(options))
        if compensated:
            compensate(subject, smaller, specs, chosen.plan, track)
        if options.recovery is not None:
            beside = options.beside or out
            state = beside.with_name(f".{beside.name}.recovery-{made_for[:12]}.safetensors")
            everything = subject.over(samples_from(options.images, None, options.seed)) if options.images else subject
            smaller = recover(everything, smaller, chosen.plan, options.recovery, state, track)
        if not all(bool(torch.isfinite(p).all()) for p in smaller.parameters()):
            raise ExportError(
                "the pruned model holds NaN or infinity; calibrate on other pictures or with --no-compensate"
            )
        heard = compensated or options.recovery is not None or any(map(_needs, options.wishes.values()))
        story = _story(opened, options, chosen, made_for, heard, compensated)
        texts = {"config.json": subject.config(chosen.plan, smaller), **subject.files()}
        write_checkpoint(opened.path, folder, smaller, texts, subject.stored, story)
        opened.verify(folder, specs)
        publish(folder, out)
    return story


def _check(opened: OpenedModel, options: PruneOptions) -> None:
    """Everything that can be refused before any work."""
    if options.pictures < 1:
        raise PlanError(f"calibration on {options.pictures} pictures is impossible; give a number from 1")
    if options.precision not in get_args(WeightPrecision):
        raise PlanError(unknown("precision", options.precision, get_args(WeightPrecision)))
    for part, wish in options.wishes.items():
        if part not in opened.specs:
            raise PlanError(f"the model has no {part}; it has {', '.join(opened.specs)}")
        count = opened.specs[part][1]
        if not 0 <= wish.blocks < count:
            raise PlanError(
                f"{wish.blocks} of {count} blocks of the {part} cannot leave; give a number from 0 to {count - 1}"
            )
        if wish.align < 1:
            raise PlanError(f"channels of the {part} cannot be aligned to {wish.align}; give --align a number from 1")
        if wish.target.measure == "energy":
            sensor()
        NORMALISATIONS.get(wish.normalise)
        importance, block = IMPORTANCES[wish.importance], BLOCK_IMPORTANCES[wish.block_importance]
        for name, parts in ((importance.name, importance.parts), *([(block.name, block.parts)] if wish.blocks else [])):
            if part not in parts:
                some = ", ".join(one for one in IMPORTANCES if part in IMPORTANCES[one].parts)
                raise PlanError(f"{name} says nothing about the {part}; choose one of {some}")
        allocation = ALLOCATIONS.get(wish.allocation)
        wanting = [
            *([importance.name] if importance.needs else []),
            *([block.name] if wish.blocks else []),
            *([allocation.name] if allocation.gradients else []),
        ]
        if options.images is None and not importance.noise and wanting:
            raise PlanError(
                f"{wanting[0]} for the {part} is measured on pictures; give a folder of pictures like those the model will see with "
                "--images, or choose what does without: magnitude, dimap or obs, and neither --blocks nor slope"
            )
    if options.recovery is not None and options.images is None:
        raise PlanError("recovery learns on pictures; give a folder of them with --images")


def _needs(wish: StructureRequest) -> frozenset[Need]:
    block = BLOCK_IMPORTANCES[wish.block_importance].needs if wish.blocks else frozenset[Need]()
    gradients: frozenset[Need] = frozenset({"gradients"} if ALLOCATIONS[wish.allocation].gradients else ())
    return IMPORTANCES[wish.importance].needs | block | gradients


def _on_noise(options: PruneOptions) -> bool:
    return bool(options.wishes) and all(IMPORTANCES[wish.importance].noise for wish in options.wishes.values())


def _chosen(
    opened: OpenedModel, subject: PrunableModel, options: PruneOptions, made_for: str, track: Track
) -> PlanWithCost:
    if options.plan is not None:
        story = read_record(options.plan)
        if story.source_sha256 != made_for:
            raise PlanError(
                f"{options.plan} was made for another checkpoint ({story.source}, {story.source_sha256[:12]}...; this one is "
                f"{made_for[:12]}...); make a plan for this one"
            )
        plan = StructurePlan({part: one.blocks for part, one in story.parts.items()})
        check_plan(plan, subject.specs)
        return PlanWithCost(plan)
    prices = {
        part: price_of(wish.target.measure, opened.specs[part][0], opened.terms, track)
        for part, wish in options.wishes.items()
    }
    statistics = collect_statistics(
        subject, frozenset().union(*(_needs(wish) for wish in options.wishes.values())), track
    )
    scores = {}
    for part, wish in options.wishes.items():
        block = BLOCK_IMPORTANCES[wish.block_importance]
        if wish.blocks and block.score is None:
            scores[part] = removal_losses(subject, part, track)
        elif wish.blocks and block.score is not None:
            count = subject.specs[part][1]
            scores[part] = [block.score(statistics.block(part, i)) for i in range(count)]
    return choose(subject.module, subject.specs, options.wishes, prices, statistics, scores)


def _story(
    opened: OpenedModel, options: PruneOptions, chosen: PlanWithCost, made_for: str, heard: bool, compensated: bool
) -> PruneRecord:
    promised = {promise.part: promise for promise in chosen.promises}
    parts = {}
    for part, blocks in chosen.plan.blocks.items():
        wish, promise = options.wishes.get(part), promised.get(part)
        parts[part] = PartRecord(
            blocks=tuple(BlockPlan(b.block, b.heads, b.mlp) for b in blocks),
            target=None if wish is None else wish.target.label,
            before=None if promise is None else promise.before,
            after=None if promise is None else promise.after,
            importance=None if wish is None else wish.importance,
            allocation=None if wish is None else wish.allocation,
            normalise=None if wish is None else wish.normalise,
        )
    return PruneRecord(
        schema=SCHEMA,
        source=opened.path.name,
        source_sha256=made_for,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=options.command,
        parts=parts,
        samples=len(opened.samples) if heard else 0,
        noise=heard and options.images is None,
        seed=options.seed,
        compensated=compensated,
        recovery=None if options.recovery is None else msgspec.to_builtins(options.recovery),
    )
