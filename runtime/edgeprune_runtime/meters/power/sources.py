"""Which source of power is read, and why: a board's own rails, else the GPU's counters, else the processor's, else none.

Rails cover all that runs on a Jetson. On other machines NVML sees only the graphics board and RAPL only the processor
packages, so a source is picked for the device that does the work: watts of the other would be wrong, not merely rough.
A source is one opener in `SOURCES`, by name, so that the sampling process can open it by that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.boards.jetson_rails import open_rails
from edgeprune_runtime.meters.boards.nvml import open_nvml
from edgeprune_runtime.meters.energy import open_rapl
from edgeprune_runtime.meters.power.base import PowerSource, Tick
from edgeprune_runtime.registry import Registry

Opener = Callable[[Path], PowerSource]


class Nothing:
    """The source that is read when there is none: everything is unknown. The board's state is sampled all the same."""

    covers = "nothing"
    averaging_s: float | None = None
    parts: tuple[str, ...] = ()

    def __init__(self, why: str) -> None:
        self.name = f"unknown: {why}"

    def read(self) -> Tick:
        return Tick()


#: In the order of preference.
SOURCES: Registry[Opener] = Registry("power source", error=MeasurementError)
SOURCES.add("jetson_rails", open_rails)
SOURCES.add("nvml", open_nvml)
SOURCES.add("rapl", lambda root: open_rapl(root / "sys/class/powercap"))


@dataclass(frozen=True, slots=True)
class SourceCandidate:
    """One source here: `name` and `covers` when it can be read, else the sentence `why_not`."""

    kind: str
    name: str | None
    covers: str | None
    why_not: str | None


def power_sources(root: Path = Path("/")) -> tuple[SourceCandidate, ...]:
    """Try every source, in the order of preference."""
    found = []
    for kind in SOURCES:
        try:
            source = SOURCES.get(kind)(root)
            found.append(SourceCandidate(kind, source.name, source.covers, None))
        except MeasurementError as error:
            found.append(SourceCandidate(kind, None, None, str(error)))
    return tuple(found)


def pick(candidates: Sequence[SourceCandidate], device: str) -> SourceCandidate:
    """The first that covers the device which does the work, "cpu" or "gpu"; of kind "none", with the reasons, if none."""
    reasons = []
    for candidate in candidates:
        if candidate.covers in ("board", "module", device):
            return candidate
        covered = candidate.why_not or f"it covers the {candidate.covers} only, and the work runs on the {device}"
        reasons.append(f"{candidate.kind}: {covered}")
    return SourceCandidate("none", None, None, "no power sensor for this work. " + ". ".join(reasons))


def open_source(kind: str, root: Path, why: str) -> PowerSource:
    """By name; "none", and a source that no longer opens, read nothing and say why."""
    if why and kind not in SOURCES:
        return Nothing(why)
    try:
        return SOURCES.get(kind)(root)
    except MeasurementError as error:
        return Nothing(str(error))
