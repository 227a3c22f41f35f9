"""A made-up board and made-up work with round numbers, for tests that compute by hand."""

from __future__ import annotations

from typing import Any

from edgeprune_profiles.boards.device import Device, DeviceMemory, Figure, Market, MarketPrice, PowerMode, Source
from edgeprune_profiles.boards.roofline import Bound, Ideal

SOURCES = {"made": Source("made up", "", "2026-01-01")}


def board(name: str = "made", **changes: Any) -> Device:
    """1 TFLOP/s in fp32, 2 in fp16, 4 Top/s in int8, 100 GB/s, 8 GB, 10 W, 100 USD, 1 us per node."""
    fields: dict[str, Any] = {
        "peak_per_s": {"fp32": figure(1e12), "fp16": figure(2e12), "int8": figure(4e12)},
        "memory": DeviceMemory(figure(8e9), figure(100e9)),
        "power_modes": (PowerMode("10W", figure(10), of_the_peaks=True),),
        "market": Market(price(100)),
        "launch_s": figure(1e-6),
        "kind": "gpu",
    }
    return Device(name=name, title=name, unified=False, sources=SOURCES, **{**fields, **changes})


def figure(value: float) -> Figure:
    return Figure(value, "made")


def ideal_of(seconds: float, stage: str = "prefill", bound: Bound = "compute", precision: str = "fp16") -> Ideal:
    return Ideal(stage, seconds, bound, precision, 0.0, 0.0)


def price(value: float) -> MarketPrice:
    return MarketPrice(value, "made", kind="card")
