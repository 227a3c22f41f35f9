"""Instruments. Each is one file, says when it cannot measure here, and names the source of each of its readings."""

from edgeprune_runtime.meters.base import Meter, Window
from edgeprune_runtime.meters.clocks import BoardState, Spell, spell
from edgeprune_runtime.meters.energy import EnergyMeter, EnergyReading
from edgeprune_runtime.meters.environment import Environment, environment
from edgeprune_runtime.meters.jetson_board import JetsonState
from edgeprune_runtime.meters.looks import Looks
from edgeprune_runtime.meters.memory import MemoryMeter, MemoryReading
from edgeprune_runtime.meters.power import Plan, PowerRun, measure
from edgeprune_runtime.meters.power_joules import Joules, joules, powers_w
from edgeprune_runtime.meters.power_recorder import record
from edgeprune_runtime.meters.power_sources import Candidate, pick, power_sources
from edgeprune_runtime.meters.power_trace import Trace
from edgeprune_runtime.meters.registry import meter, meter_names, register, survey
from edgeprune_runtime.meters.soak import Stretch, first_and_last_minute, soak
from edgeprune_runtime.meters.source_meter import SourceMeter

__all__ = [
    "BoardState",
    "Candidate",
    "EnergyMeter",
    "EnergyReading",
    "Environment",
    "JetsonState",
    "Joules",
    "Looks",
    "MemoryMeter",
    "MemoryReading",
    "Meter",
    "Plan",
    "PowerRun",
    "SourceMeter",
    "Spell",
    "Stretch",
    "Trace",
    "Window",
    "environment",
    "first_and_last_minute",
    "joules",
    "measure",
    "meter",
    "meter_names",
    "pick",
    "power_sources",
    "powers_w",
    "record",
    "register",
    "soak",
    "spell",
    "survey",
]
