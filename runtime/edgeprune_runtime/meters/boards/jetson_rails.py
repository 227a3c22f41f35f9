"""Power of a Jetson's rails from its INA3221 and INA238 monitors: files only, no root, no service, no vendor package.

Where they are: hwmon folders below the driver ina3221 (JetPack 5 and later) and below /sys/class/hwmon (INA238, the
carrier's input on Thor), `iio:device*` below the driver ina3221x (JetPack 4). Units: mV, mA and, from INA238, uW; mW in
JetPack 4. Rails keep the labels of the board. Channels labelled NC and channels without a current are no rails.
Which of them are the board's power is said by the board, see `jetson_totals`: an add-on monitor is a rail and no more.
The source's name says which rails were added. A sum of rails leaves out what the board does not measure: it reads less
than a meter at the plug, and so does every rail of a module.
The monitors average over `update_interval` (about 430 ms on Xavier and Orin), so faster polling repeats values.
A single rail may read below 0 (VDD_GPU of an idle Thor): it is kept as read. When one rail of a sum does not answer,
the total is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.boards.jetson import tegra
from edgeprune_runtime.meters.boards.jetson_totals import UNLABELLED, total_labels
from edgeprune_runtime.meters.power.base import Tick
from edgeprune_runtime.meters.sysfs import number, text, why_silent

MONITORS = ("ina3221", "ina238")
_UNUSED = re.compile(r"NC\d*$")
_CARRIER = ("VIN",)  # measured on the carrier, so it covers more than the module
_NO_LABEL = "no label"


@dataclass(frozen=True, slots=True)
class Rail:
    """One channel. `power` is read where the monitor offers it, in units of `unit_w`; else voltage times current.

    samples     readings that the monitor averages, as the driver says
    average_s   time for that
    """

    label: str
    monitor: str
    power: Path | None
    unit_w: float
    voltage: Path | None
    current: Path | None
    samples: int | None
    average_s: float | None

    def watts(self) -> float | None:
        if self.power is not None:
            raw = number(self.power)
            return None if raw is None else raw * self.unit_w
        if self.voltage is None or self.current is None:
            return None
        millivolts, milliamperes = number(self.voltage), number(self.current)
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6

    def why_silent(self) -> str:
        """Why it gives no watts: of the first of its files that holds no number."""
        files = [self.power] if self.power is not None else [self.voltage, self.current]
        return next((why_silent(file) for file in files if file is not None and number(file) is None), "no reading")


def find_rails(root: Path) -> tuple[Rail, ...]:
    """All rails, in the order of the folders; a monitor that two folders lead to is read once."""
    folders = {folder.resolve(): folder for folder in reversed(list(_hwmon_folders(root)))}
    rails = [rail for folder in reversed(folders.values()) for rail in _hwmon_rails(folder)]
    for folder in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*")):
        rails += _iio_rails(folder)
    return _named(rails, UNLABELLED.get(tegra(root) or ""))


def summed(rails: tuple[Rail, ...], chip: str) -> tuple[Rail, ...]:
    """The rails that add up to the power of a board with this chip ("" where it is not known). Raises MeasurementError."""
    labels = total_labels([rail.label for rail in rails], chip)
    return tuple(rail for label in labels for rail in rails if rail.label == label)


@dataclass(frozen=True, slots=True)
class RailSource:
    """All rails of a board; `total` are those that are added up."""

    rails: tuple[Rail, ...]
    total: tuple[Rail, ...]

    @property
    def name(self) -> str:
        return f"{self.total[0].monitor}:{'+'.join(rail.label for rail in self.total)}"

    @property
    def covers(self) -> str:
        return "board" if self.total[0].label in _CARRIER else "module"

    @property
    def averaging_s(self) -> float | None:
        times = [rail.average_s for rail in self.total if rail.average_s is not None]
        return max(times, default=None)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(rail.label for rail in self.rails)

    def read(self) -> Tick:
        watts = {rail.label: rail.watts() for rail in self.rails}
        counted = [watts[rail.label] for rail in self.total]
        known = [value for value in counted if value is not None]
        power_w = sum(known) if len(known) == len(counted) else None
        return Tick(power_w=power_w, parts_w=tuple(watts.values()))


def open_rails(root: Path = Path("/")) -> RailSource:
    """Raises MeasurementError, with the reason and what to do, where no rail answers."""
    rails, chip = find_rails(root), tegra(root)
    if not rails:
        raise MeasurementError(
            "no INA3221 or INA238 power monitor under /sys: only Jetson boards have them (not Jetson Nano 2GB); "
            "in a container, mount /sys read-only"
        )
    if chip is None:
        raise MeasurementError(
            f"there are power monitors ({', '.join(rail.label for rail in rails)}), but nothing says that this is a Jetson "
            "(no Tegra in the device tree), so what they measure is not known; in a container, mount /etc/nv_tegra_release"
        )
    source = RailSource(rails, summed(rails, chip))
    if source.read().power_w is None:
        silent = "; ".join(f"{rail.label}: {rail.why_silent()}" for rail in source.total if rail.watts() is None)
        raise MeasurementError(f"a power rail cannot be read ({silent}); look at the monitors' files with `sensors`")
    return source


def _named(rails: list[Rail], unlabelled: tuple[str, str] | None) -> tuple[Rail, ...]:
    """The one chip without a label is what the board says it is; one of several, or on another board, is just a chip."""
    bare = [rail for rail in rails if rail.label == _NO_LABEL]
    known = unlabelled is not None and len(bare) == 1 and bare[0].monitor == unlabelled[0]
    name = unlabelled[1] if known and unlabelled is not None else None
    places = {id(rail): f"{rail.monitor} {number + 1}" for number, rail in enumerate(bare)}
    return tuple(replace(rail, label=name or places[id(rail)]) if id(rail) in places else rail for rail in rails)


def _hwmon_folders(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"))
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if text(folder / "name") in MONITORS:
            yield folder


def _hwmon_rails(folder: Path) -> Iterator[Rail]:
    monitor = text(folder / "name") or "ina3221"
    interval_ms = number(folder / "update_interval")
    for channel in (1, 2, 3):  # in4 to in7 are shunt voltages and their sum
        label = text(folder / f"in{channel}_label") or (text(folder / "label") if channel == 1 else None)
        if label is None and monitor == "ina238" and channel == 1:
            label = _NO_LABEL  # its driver has none
        if label is None or _UNUSED.match(label):
            continue
        power = _there(folder / f"power{channel}_input")
        voltage, current = _there(folder / f"in{channel}_input"), _there(folder / f"curr{channel}_input")
        if power or (voltage and current):
            average_s = None if interval_ms is None else interval_ms / 1e3
            yield Rail(label, monitor, power, 1e-6, voltage, current, number(folder / "samples"), average_s)


def _iio_rails(folder: Path) -> Iterator[Rail]:
    for channel in range(3):
        label = text(folder / f"rail_name_{channel}")
        if label is None or _UNUSED.match(label):
            continue
        power = _there(folder / f"in_power{channel}_input")
        voltage = _there(folder / f"in_voltage{channel}_input")
        current = _there(folder / f"in_current{channel}_input")
        if power or (voltage and current):
            yield Rail(label, "ina3221x", power, 1e-3, voltage, current, None, None)


def _there(path: Path) -> Path | None:
    return path if path.exists() else None
