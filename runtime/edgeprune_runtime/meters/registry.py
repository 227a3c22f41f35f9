"""Instruments by name. Each is made by calling what is registered under its name without arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.base import Meter
from edgeprune_runtime.registry import Registry

METERS: Registry[Callable[[], Meter[Any]]] = Registry("meter", group="edgeprune.meters", error=MeasurementError)
for _name, _target in {
    "board": "snapshots:board_meter",
    "energy": "power.source_meter:energy_meter",
    "jetson_board": "snapshots:jetson_meter",
    "jetson_rails": "power.source_meter:rails_meter",
    "memory": "memory:MemoryMeter",
    "nvml": "power.source_meter:nvml_meter",
    "rapl": "energy:EnergyMeter",
}.items():
    METERS.add_lazy(_name, f"edgeprune_runtime.meters.{_target}")


def meter(name: str) -> Meter[Any]:
    """A new instrument. Raises MeasurementError for a name that nobody knows."""
    return METERS.get(name)()


def survey() -> dict[str, str | None]:
    """For each instrument: None when it can measure here, else the sentence that says why and what to do."""
    return {name: meter(name).why_unavailable() for name in METERS}
