"""Checkpoint and requests in, smaller checkpoint out: what can be refused is refused first, and what prunes is imported then."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import PlanError
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import publish, require_free, staging
from edgeprune_export.pruning.open import open_prunable
from edgeprune_export.pruning.options import PruneOptions, require_possible
from edgeprune_export.pruning.record import STRUCTURE, PruneRecord


def prune(source: str | Path, out: Path, options: PruneOptions, *, track: Track = silent) -> PruneRecord:
    """Write the pruned checkpoint `out`. Nothing is left behind on any error. Raises CheckpointError, PlanError or ExportError."""
    if not options.requests and options.plan is None:
        raise PlanError(
            "nothing is asked of any part; give a target such as --structure tower.params=0.7, or --structure-plan"
        )
    if options.requests and options.plan is not None:
        raise PlanError("a plan repeats a choice and targets ask for a new one; give one of them")
    require_free(out, force=options.force, marker=STRUCTURE)
    with track("reading the checkpoint", 0):
        opened = open_prunable(
            source,
            options.images,
            options.pictures,
            options.seed,
            options.precision,
            sizes=options.sizes,
            tokens=options.tokens,
        )
    require_possible(opened, options)
    with staging(out, force=options.force, marker=STRUCTURE) as folder:
        with track("loading torch and transformers", 0):
            from edgeprune_export.pruning.carry_out import carry_out

        record = carry_out(opened, options, folder, options.resume_beside or out, track)
        publish(folder, out)
    return record
