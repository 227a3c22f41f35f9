"""Instruments. Each is one file, says when it cannot measure here, and names the source of each of its readings."""

from edgeprune_runtime.meters.base import Meter, Window
from edgeprune_runtime.meters.energy import EnergyMeter, EnergyReading
from edgeprune_runtime.meters.environment import Environment, environment
from edgeprune_runtime.meters.memory import MemoryMeter, MemoryReading
from edgeprune_runtime.meters.registry import meter, meter_names, register, survey

__all__ = [
    "EnergyMeter",
    "EnergyReading",
    "Environment",
    "MemoryMeter",
    "MemoryReading",
    "Meter",
    "Window",
    "environment",
    "meter",
    "meter_names",
    "register",
    "survey",
]
