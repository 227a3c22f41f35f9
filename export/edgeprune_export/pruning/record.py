"""structure.json of a pruned checkpoint: what stayed, of which model, and how it was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgeprune.errors import PlanError
from edgeprune.structure.plan import BlockPlan, ModelPart

SCHEMA = 1
STRUCTURE = "structure.json"


class PartRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`before` and `after` are in the target's measure: parameters, MACs, predicted seconds or joules, or bytes."""

    blocks: tuple[BlockPlan, ...]
    target: str | None = None
    before: float | None = None
    after: float | None = None
    importance: str | None = None
    allocation: str | None = None
    normalise: str | None = None


class PruneRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    source: str
    source_sha256: str
    created: str
    command: str
    parts: dict[ModelPart, PartRecord]
    samples: int
    noise: bool
    seed: int
    compensated: bool
    recovery: dict[str, Any] | None


def read_record(path: Path) -> PruneRecord:
    """Raises PlanError for a file that is missing, damaged or newer."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=PruneRecord)
    except OSError as error:
        raise PlanError(
            f"{path} cannot be read ({error.strerror}); it is the structure.json of a pruned checkpoint"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(
            f"{path} is not a structure plan ({error}); it is the structure.json of a pruned checkpoint"
        ) from error
    if record.schema != SCHEMA:
        raise PlanError(f"{path} has schema {record.schema}, this version reads {SCHEMA}; prune again")
    return record
