"""A discrete NVIDIA GPU through NVML: energy, power, clocks, throttling, temperature, memory by process.

Needs the package nvidia-ml-py (module pynvml). Every call is probed on its own: on Jetson NVML starts and answers hardly
anything, on older boards single calls are missing. What is not answered is None.
Energy: the counter of the driver (millijoules since it was loaded; Volta and newer). Power: POWER_INSTANT through the
field values, because nvmlDeviceGetPowerUsage is a mean over one second on most Ampere and newer boards. Some data-centre
boards look at the power only part of the time (arXiv 2312.02741: a quarter on A100 and H100), so the energy of a short
run is wrong whatever is read: use windows of 5 seconds and more. The watts are the whole graphics board's; the
processor and its memory are not in it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.installed import how_to_install
from edgeprune_runtime.meters.boards.nvml_device import device_of_runs
from edgeprune_runtime.meters.power.base import Tick

AVERAGED_S = 1.0  # nvmlDeviceGetPowerUsage, where it is all there is
_CLOCKS = {"nvml sm": "NVML_CLOCK_SM", "nvml memory": "NVML_CLOCK_MEM"}
#: Bits of nvmlClocksEventReasons that mean "slower than it could be"; idling and clocks set by the user are none.
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x200: "board limit",
    0x400: "reliability voltage",
}


class NvmlGpu:
    """One GPU by NVML's handle."""

    covers: ClassVar[str] = "gpu"
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, library: Any, handle: Any) -> None:
        self._nvml = library
        self._handle = handle
        self._first_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        self._last_mj = self._first_mj
        instant, usage = self._instant_mw(), self._ask("nvmlDeviceGetPowerUsage")
        self._instant = instant is not None
        counter = ["energy_counter"] if self._first_mj is not None else []
        power = ["power_instant"] if self._instant else ["power_usage"] if usage is not None else []
        self.averaging_s = AVERAGED_S if power == ["power_usage"] else None
        self.readable = bool(counter or power)
        board = self._ask("nvmlDeviceGetName") or "unnamed"
        board = board.decode() if isinstance(board, bytes) else board
        number = self._ask("nvmlDeviceGetIndex")
        which = "GPU" if number is None else f"GPU {number}"
        self.name = f"nvml:{'+'.join(counter + power) or 'nothing'} ({which}, {board})"

    def read(self) -> Tick:
        """A counter that goes back means that the driver was loaded again: from then on it is unknown."""
        milliwatts = self._instant_mw() if self._instant else self._ask("nvmlDeviceGetPowerUsage")
        now = None if self._last_mj is None else self._ask("nvmlDeviceGetTotalEnergyConsumption")
        if now is not None and now < self._last_mj:
            self._last_mj = now = None
        if now is not None:
            self._last_mj = now
        return Tick(
            power_w=None if milliwatts is None else milliwatts / 1e3,
            energy_j=None if now is None else (now - self._first_mj) / 1e3,
        )

    def temperatures_c(self) -> dict[str, float]:
        degrees = self._ask("nvmlDeviceGetTemperature", self._constant("NVML_TEMPERATURE_GPU"))
        return {} if degrees is None else {"nvml gpu": float(degrees)}

    def clocks_hz(self) -> dict[str, float]:
        asked = {n: self._ask("nvmlDeviceGetClockInfo", self._constant(c)) for n, c in _CLOCKS.items()}
        return {name: mhz * 1e6 for name, mhz in asked.items() if mhz is not None}

    def throttle_reasons(self) -> tuple[str, ...] | None:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # the name before driver 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        return tuple(f"nvml {reason}" for bit, reason in REASONS.items() if bits & bit)

    def load(self) -> float | None:
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return None if rates is None else rates.gpu / 100

    def _instant_mw(self) -> int | None:
        field = self._constant("NVML_FI_DEV_POWER_INSTANT")
        values = None if field is None else self._ask("nvmlDeviceGetFieldValues", [field])
        if not values or values[0].nvmlReturn != 0:
            return None
        return int(values[0].value.uiVal)

    def _constant(self, name: str) -> Any:
        return getattr(self._nvml, name, None)

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (self._nvml.NVMLError, AttributeError, TypeError):
            return None


def open_nvml(
    root: Path = Path("/"),
    load: Callable[[str], Any] = importlib.import_module,
    environ: Mapping[str, str] = os.environ,
) -> NvmlGpu:
    """The GPU that runs use (see `device_of_runs`).

    Raises MeasurementError, with the reason and what to do, where no GPU gives energy or power.

    `root` is not used: NVML does not read files of one's choice. It is here so that all sources open alike.
    """
    gpu = _find(load, environ)
    if not gpu.readable:
        raise MeasurementError(
            f"{gpu.name}: NVML starts here but gives neither energy nor power; on a Jetson the rails do (jetson_rails)"
        )
    return gpu


def _find(load: Callable[[str], Any], environ: Mapping[str, str]) -> NvmlGpu:
    try:
        library = load("pynvml")
    except ImportError as error:
        raise MeasurementError(
            f"{error}: NVML needs its Python package; install it with {how_to_install('nvidia-ml-py')}"
        ) from error
    try:
        library.nvmlInit()
        return NvmlGpu(library, device_of_runs(library, environ, load))
    except library.NVMLError as error:
        raise MeasurementError(
            f"NVML: {error}; it needs an NVIDIA GPU and its driver (`nvidia-smi` must work)"
        ) from error
