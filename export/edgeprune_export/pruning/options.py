"""What to do to a checkpoint, and everything about it that can be refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from edgeprune.errors import PlanError
from edgeprune.models.grids import Sizes
from edgeprune.structure.allocate import ALLOCATIONS
from edgeprune.structure.importance import BLOCK_IMPORTANCES, IMPORTANCES
from edgeprune.structure.normalise import NORMALISATIONS
from edgeprune.structure.plan import ModelPart, in_words
from edgeprune.structure.request import StructureRequest
from edgeprune_export.pruning.open import OpenedModel
from edgeprune_export.pruning.prices.energy import sensor
from edgeprune_export.pruning.record import read_record
from edgeprune_runtime.registry import unknown
from edgeprune_runtime.spec import WeightPrecision


@dataclass(frozen=True)
class Recovery:
    """How to train. `lora`: rank of the adapters; None trains every weight of the pruned blocks. `batch`: samples per step."""

    steps: int = 200
    batch: int = 16
    lora: int | None = None
    rate: float = 1e-4
    temperature: float = 2.0
    features: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.rate <= 0 or (self.lora is not None and self.lora < 1):
            raise PlanError(
                f"recovery of {self.steps} steps, batches of {self.batch}, rate {self.rate:g} and rank {self.lora} is impossible; "
                "give positive numbers"
            )


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


def require_possible(opened: OpenedModel, options: PruneOptions) -> None:
    """Raise PlanError for everything that can be refused before any work."""
    if options.plan is not None:
        read_record(options.plan)
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
