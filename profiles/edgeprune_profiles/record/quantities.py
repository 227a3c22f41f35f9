"""Quantities as people write them: 1s, 500ms, 15W, 8GB, 399."""

from __future__ import annotations

import math
import re

from edgeprune_runtime.errors import MeasurementError

#: Factors to the unit that the program counts in. GB is 10^9 bytes, GiB 2^30.
SECONDS = {"s": 1.0, "ms": 1e-3, "": 1.0}
WATTS = {"w": 1.0, "mw": 1e-3, "": 1.0}
JOULES = {"j": 1.0, "mj": 1e-3, "": 1.0}
BYTES = {"gb": 1e9, "gib": 2.0**30, "mb": 1e6, "mib": 2.0**20}
DOLLARS = {"usd": 1.0, "$": 1.0, "": 1.0}
PER_SECOND = {"/s": 1.0, "": 1.0}


def quantity(text: str, units: dict[str, float], option: str) -> float:
    """The number in the unit that counts 1. Raises MeasurementError for another unit, no number, or a number not above 0."""
    found = re.fullmatch(r"\s*\$?([0-9.]+)\s*([a-zA-Z/$]*)\s*", text)
    factor = None if found is None else units.get(found[2].lower())
    try:
        value = math.nan if found is None or factor is None else float(found[1]) * factor
    except ValueError:
        value = math.nan
    if not value > 0:
        written = ", ".join(unit for unit in units if unit) or "no unit"
        raise MeasurementError(f"{option} is {text!r}; expected a number above 0 with one of the units {written}")
    return value


def size_px(text: str, option: str) -> tuple[int, int]:
    """(height, width) of WIDTHxHEIGHT."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None or "0" in found.groups():
        raise MeasurementError(f"{option} is {text!r}; expected WIDTHxHEIGHT in pixels, as 640x480")
    return int(found[2]), int(found[1])


def accuracy_shares(text: str, option: str) -> tuple[float | None, float | None]:
    """(least difference to full budget, least score), one of them: -3 is (-0.03, None), 85 is (None, 0.85). Raises MeasurementError."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if -100 < value <= 0:
        return value / 100, None
    if 1 < value <= 100:
        return None, value / 100
    raise MeasurementError(
        f"{option} is {text!r}; expected points below the full budget, as -3, or the per cent that are right at least, as 85"
    )
