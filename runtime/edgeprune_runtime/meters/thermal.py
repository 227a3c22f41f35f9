"""How warm it is and what holds the clocks back, by Linux' own names: thermal zones, cooling devices, event counters.

Sources: /sys/class/thermal of any Linux; `oc*_event_cnt` of Jetson's soctherm (over-current and under-voltage events
since boot, Jetson Linux Developer Guide); `thermal_throttle/*_throttle_count` of x86 processors.
A cooling device counts as throttling when it is one that slows something down and its state is above 0: fans cool
without slowing, and laptops register displays and radios as cooling devices too. NVML's reasons are in `nvml.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeprune_runtime.meters.sysfs import number, text

_SLOWS = re.compile(r"cpufreq|devfreq|throttle|hot-surface|^Processor$")
_THERMAL = "sys/class/thermal"
_OFF_C = -200.0  # a switched-off sensor of a Jetson reads -256


def temperatures_c(root: Path) -> dict[str, float]:
    """Degrees Celsius by zone. Zones that are asleep or switched off are left out."""
    found: dict[str, float] = {}
    for zone in _numbered(root / _THERMAL, "thermal_zone"):
        milli = number(zone / "temp")
        if milli is not None and milli / 1e3 > _OFF_C:
            name = text(zone / "type") or zone.name
            found[name if name not in found else f"{name} ({zone.name})"] = milli / 1e3
    return found


def slowed_by(root: Path) -> tuple[str, ...] | None:
    """Names of the cooling devices that are slowing something down now; None when none of that kind can be read."""
    states = [
        (text(device / "type") or "", number(device / "cur_state"))
        for device in _numbered(root / _THERMAL, "cooling_device")
    ]
    slowing = [(kind, state) for kind, state in states if state is not None and _SLOWS.search(kind)]
    return tuple(dict.fromkeys(kind for kind, state in slowing if state > 0)) if slowing else None


def throttle_events(root: Path) -> dict[str, int]:
    """Counters of throttle events since boot, by name; those of x86 are sums over processors. Only growth says anything."""
    found = {
        f"{file.name.partition('_')[0]} events": [file] for file in root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt")
    }
    for kind in ("core", "package"):
        files = root.glob(f"sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{kind}_throttle_count")
        found[f"{kind} throttle"] = list(files)
    counts = {name: [number(file) for file in files] for name, files in sorted(found.items())}
    known = {name: [count for count in several if count is not None] for name, several in counts.items()}
    return {name: sum(several) for name, several in known.items() if several}


def _numbered(folder: Path, stem: str) -> list[Path]:
    return sorted(folder.glob(f"{stem}[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name)))
