"""What a board is, as data: peak rates, memory, power modes, software, price. Every figure names its public source.

Peak rates are dense operations per second (a multiply-accumulate is two), never the sparse ones of advertisements. What
no source was found for is absent, and whoever needs it raises an error that names it: `need_peak`, `need_bandwidth`.
A peak and a bandwidth belong to one power mode; another mode has only the figures that were published for it.
A source that only repeats what its subject's maker says (an article, a collection of specifications) is marked as `quoted`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from edgeprune_runtime.errors import MeasurementError

DeviceKind = Literal["jetson", "gpu", "cpu"]
PeakPrecision = Literal["fp32", "fp16", "bf16", "int8", "fp8", "fp4"]
#: What a price buys: a module alone (at 1000 units), a developer kit, a card, a bare processor, a whole computer; "": not said.
PriceKind = Literal["module", "kit", "card", "processor", "computer", ""]
#: How the profile of a developer kit is named: as its module's, with this behind it.
KIT = "-kit"
#: Arithmetic that can stand in for a narrower one without loss, widest last: a half is multiplied as a single on an old card.
WIDER: dict[str, tuple[str, ...]] = {
    "fp4": ("fp8", "fp16"),
    "fp8": ("fp16",),
    "int8": ("fp16", "fp32"),
    "fp16": ("fp32",),
}


class DeviceData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all device data: immutable, equal by value, unknown fields refused."""


class Figure(DeviceData, frozen=True):
    """A number and where it is from. `how` is the arithmetic or the condition, where the source has no such number itself."""

    value: float
    source: str
    how: str = ""


class MarketPrice(Figure, frozen=True):
    """US dollars. `kind` says what they buy; `since` is when the price was set, where that is not the date of the source."""

    kind: PriceKind = ""
    since: str = ""


class Fact(DeviceData, frozen=True):
    """A word instead of a number."""

    value: str
    source: str
    how: str = ""


class Source(DeviceData, frozen=True):
    """A document. `url` is empty for one that has none; `date` is when it was published or read.

    quoted  it repeats what its subject's maker says, which itself was not read: an article, a collection, a post in a forum. Not so the
            maker's own documents, copies of them, and what somebody measured
    """

    title: str
    url: str
    date: str
    quoted: bool = False


class DeviceMemory(DeviceData, frozen=True):
    size_bytes: Figure | None = None
    bandwidth_bytes_per_s: Figure | None = None


class PowerMode(DeviceData, frozen=True):
    """A limit that the board can be set to. `of_the_peaks`: the device's own rates and bandwidth were published for it."""

    name: str
    power_w: Figure
    of_the_peaks: bool = False
    peak_per_s: dict[PeakPrecision, Figure] = {}
    bandwidth_bytes_per_s: Figure | None = None


class Software(DeviceData, frozen=True):
    compute_capability: Fact | None = None
    tensorrt: Fact | None = None
    jetpack: Fact | None = None


class Market(DeviceData, frozen=True):
    price_usd: MarketPrice | None = None
    end_of_life: Fact | None = None


class Device(DeviceData, frozen=True):
    """One board in one state. `unified`: processor and graphics share its memory. `launch_s`: overhead of one graph node."""

    name: str
    title: str
    kind: DeviceKind
    unified: bool
    sources: dict[str, Source]
    peak_per_s: dict[PeakPrecision, Figure] = {}
    memory: DeviceMemory = DeviceMemory()
    power_modes: tuple[PowerMode, ...] = ()
    launch_s: Figure | None = None
    software: Software = Software()
    market: Market = Market()
    notes: tuple[str, ...] = ()

    @property
    def mode(self) -> PowerMode | None:
        """The power mode that the rates belong to."""
        return next((mode for mode in self.power_modes if mode.of_the_peaks), None)

    @property
    def power_w(self) -> float | None:
        return self.mode.power_w.value if self.mode else None

    @property
    def price_usd(self) -> float | None:
        return self.market.price_usd.value if self.market.price_usd else None

    @property
    def short_title(self) -> str:
        """Without the maker's name, which says nothing that the rest does not."""
        return self.title.removeprefix("NVIDIA ").removeprefix("GeForce ")

    def quoted(self, figure: Figure | Fact) -> bool:
        """Whether its source only repeats what another one says."""
        return self.sources[figure.source].quoted

    def dated(self, figure: Figure | Fact) -> str:
        """When it was so: YYYY, YYYY-MM or YYYY-MM-DD."""
        return (figure.since if isinstance(figure, MarketPrice) else "") or self.sources[figure.source].date

    def figures(self) -> Iterator[tuple[str, Figure | Fact]]:
        """Every figure with a name of its own, in reading order."""
        yield from ((f"peak {precision}", figure) for precision, figure in self.peak_per_s.items())
        named: list[tuple[str, Figure | Fact | None]] = [
            ("memory size", self.memory.size_bytes),
            ("memory bandwidth", self.memory.bandwidth_bytes_per_s),
            ("launch overhead", self.launch_s),
        ]
        for mode in self.power_modes:
            named.append((f"power in mode {mode.name}", mode.power_w))
            named += [
                (f"peak {precision} in mode {mode.name}", figure) for precision, figure in mode.peak_per_s.items()
            ]
            named.append((f"memory bandwidth in mode {mode.name}", mode.bandwidth_bytes_per_s))
        named += [
            ("compute capability", self.software.compute_capability),
            ("TensorRT", self.software.tensorrt),
            ("JetPack", self.software.jetpack),
            ("price", self.market.price_usd),
            ("end of life", self.market.end_of_life),
        ]
        yield from ((name, figure) for name, figure in named if figure is not None)


def in_mode(device: Device, name: str) -> Device:
    """The same board in another power mode: rates and bandwidth are those published for that mode, else unknown."""
    mode = next((mode for mode in device.power_modes if mode.name.lower() == name.lower()), None)
    if mode is None:
        known = ", ".join(mode.name for mode in device.power_modes) or "none"
        raise MeasurementError(f"{device.name} has no power mode {name!r} with a source; it has {known}")
    if mode.of_the_peaks:
        return device
    modes = tuple(msgspec.structs.replace(m, of_the_peaks=m is mode) for m in device.power_modes)
    memory = msgspec.structs.replace(device.memory, bandwidth_bytes_per_s=mode.bandwidth_bytes_per_s)
    changed = msgspec.structs.replace(device, peak_per_s=mode.peak_per_s, memory=memory, power_modes=modes)
    return msgspec.structs.replace(changed, name=f"{device.name}@{mode.name}", title=f"{device.title}, {mode.name}")


def module_of(name: str) -> str:
    """The profile of the module that a developer kit carries; any other name as it is. A kit computes what its module does."""
    board, at, mode = name.partition("@")
    return f"{board.removesuffix(KIT)}{at}{mode}"


def board_of(name: str) -> str:
    """The board behind a profile's name: power modes, Super mode among them, are states of it, and a developer kit carries it."""
    return module_of(name).partition("@")[0].removesuffix("-super")


def need_peak(device: Device, precision: str) -> float:
    """Operations per second at a precision, or at a wider one where that is faster. Raises MeasurementError when unknown."""
    rates = {str(name): figure.value for name, figure in device.peak_per_s.items()}
    if precision not in rates:
        raise MeasurementError(_unknown(device, f"its peak rate in {precision}"))
    return max(rates.get(name, 0.0) for name in (precision, *WIDER.get(precision, ())))


def need_bandwidth(device: Device) -> float:
    """Bytes per second of its memory. Raises MeasurementError when unknown."""
    figure = device.memory.bandwidth_bytes_per_s
    if figure is None:
        raise MeasurementError(_unknown(device, "its memory bandwidth"))
    return figure.value


def _unknown(device: Device, figure: str) -> str:
    measure = (
        "measure it there with `edgeprune devices --measure-cpu`" if device.kind == "cpu" else "choose another mode"
    )
    return f"{device.name} cannot be projected: {figure} is unknown; {measure}, or add the figure with its source to a device file"
