"""What a user asks of a part's size: a share of its parameters, MACs, predicted time or energy, or bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from edgeprune.errors import PlanError
from edgeprune.structure.plan import PARTS, ModelPart

Measure = Literal["params", "macs", "latency", "energy", "memory"]
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class PruneTarget:
    """`value`: a share of the part as it is (0 to 1), or bytes for memory."""

    measure: Measure
    value: float

    @property
    def label(self) -> str:
        return f"{self.measure}={self.value:g}" if self.measure != "memory" else f"memory={self.value / 2**20:.6g}MiB"


def target_from_text(text: str) -> PruneTarget:
    """Read `params=0.7`, `macs=0.7`, `latency=0.7`, `energy=0.7` or `memory=2GiB`. Raises PlanError for anything else."""
    name, _, value = text.partition("=")
    if name not in get_args(Measure):
        raise PlanError(
            f"target {text!r} is not known; write params=0.7, macs=0.7, latency=0.7, energy=0.7 or memory=2GiB"
        )
    if name == "memory":
        found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([A-Za-z]*)", value)
        if found is None or found[2] not in _UNITS or float(found[1]) <= 0:
            raise PlanError(f"target {text!r} is not a size; write for example memory=2GiB or memory=500MB")
        return PruneTarget("memory", float(found[1]) * _UNITS[found[2]])
    try:
        share = float(value)
    except ValueError as error:
        raise PlanError(f"target {text!r} is not a share; write for example {name}=0.7") from error
    if not 0 < share <= 1:
        raise PlanError(f"target {text!r} is not a share above 0 and up to 1; write for example {name}=0.7")
    return PruneTarget(name, share)  # type: ignore[arg-type]  # one of Measure, checked above


def blocks_from_texts(
    texts: Sequence[str], parts: Sequence[ModelPart], targets: Collection[ModelPart]
) -> dict[ModelPart, int]:
    """Whole blocks that leave first: read `tower=1`; a number alone is for every part. Only parts with a target can lose any."""
    found: dict[ModelPart, int] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not number.isdigit() or (equals and name not in parts):
            raise PlanError(f"--blocks {text} is not understood; write for example --blocks {parts[0]}=1")
        found |= {part: int(number) for part in parts if not equals or part == name}
    if stray := next((part for part in found if part not in targets), None):
        raise PlanError(f"--blocks names the {stray}, for which there is no target; add --structure {stray}.params=0.9")
    return found


def targets_from_texts(texts: Sequence[str], parts: Sequence[ModelPart]) -> dict[ModelPart, PruneTarget]:
    """Read `tower.params=0.7`; without a part, the target is for every part of the model."""
    found: dict[ModelPart, PruneTarget] = {}
    for text in texts:
        prefix, dot, rest = text.partition(".")
        named = next((part for part in PARTS if part == prefix), None) if dot and "=" not in prefix else None
        if dot and "=" not in prefix and named is None:
            raise PlanError(f"target {text!r} names no part; write for example tower.params=0.7 or language.macs=0.8")
        if named is not None and named not in parts:
            raise PlanError(
                f"target {text!r} is for the {named}, which this model does not have; it has {', '.join(parts)}"
            )
        target = target_from_text(rest if named else text)
        for part in (named,) if named else parts:
            if part in found:
                raise PlanError(f"the {part} has two targets, {found[part].label} and {target.label}; give one")
            found[part] = target
    return found
