"""Instruments. Each is one file, says when it cannot measure here, and names the source of each of its readings."""

from edgeprune_runtime.meters.base import Meter, Window
from edgeprune_runtime.meters.boards.jetson import JetsonState
from edgeprune_runtime.meters.busy import MachineLook, MachineUse, look, machine_use, use_while_resting
from edgeprune_runtime.meters.clocks import BoardState, StateSummary, state_summary
from edgeprune_runtime.meters.energy import EnergyMeter, EnergyReading
from edgeprune_runtime.meters.environment import Environment, environment
from edgeprune_runtime.meters.memory import MemoryMeter, MemoryReading
from edgeprune_runtime.meters.power.joules import Joules, joules, powers_w
from edgeprune_runtime.meters.power.meter import Plan, PowerRun, measure
from edgeprune_runtime.meters.power.recorder import record
from edgeprune_runtime.meters.power.source_meter import SourceMeter
from edgeprune_runtime.meters.power.sources import SourceCandidate, pick, power_sources
from edgeprune_runtime.meters.power.trace import Trace
from edgeprune_runtime.meters.registry import METERS, meter, survey
from edgeprune_runtime.meters.snapshots import Snapshots
from edgeprune_runtime.meters.soak import SoakInterval, first_and_last_minute, soak

__all__ = [
    "METERS",
    "BoardState",
    "SourceCandidate",
    "EnergyMeter",
    "EnergyReading",
    "Environment",
    "JetsonState",
    "MachineLook",
    "MachineUse",
    "Joules",
    "Snapshots",
    "MemoryMeter",
    "MemoryReading",
    "Meter",
    "Plan",
    "PowerRun",
    "SourceMeter",
    "StateSummary",
    "SoakInterval",
    "Trace",
    "Window",
    "environment",
    "first_and_last_minute",
    "joules",
    "look",
    "machine_use",
    "measure",
    "meter",
    "pick",
    "power_sources",
    "powers_w",
    "record",
    "soak",
    "state_summary",
    "survey",
    "use_while_resting",
]
