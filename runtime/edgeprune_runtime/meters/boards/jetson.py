"""The state of a Jetson beside its rails: GPU, memory clock, fan, power mode, unified memory. No root is needed for most.

GPU load is the driver's `load` file (per mille) and clocks are devfreq's (Orin: 17000000.gpu; Nano: 57000000.gpu; Thor:
gpu-gpc-0, which has no load file). The memory controller's clock is a debug file that only root reads: unknown
otherwise. The processor and the GPU share one memory, so what a run takes is seen in three places that do not add up:
MemAvailable of the system, NvMapMemUsed (buffers of the GPU; kernels that show it) and the process' own proportional set.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edgeprune_runtime.meters.memory import ProcSource
from edgeprune_runtime.meters.sysfs import number, text

DEVICE_TREES = ("proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible")
LOADS = (
    "sys/devices/platform/bus@0/17000000.gpu/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/gpu.0/load",
)
GPU_CLOCKS = ("17000000.gpu", "gpu-gpc-0", "17000000.gv11b", "17000000.ga10b", "57000000.gpu")
EMC_CLOCKS = (
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/kernel/debug/clk/emc/clk_rate",
)
FAN_PWM_FULL = 255


@dataclass(frozen=True, slots=True)
class JetsonPowerMode:
    """What nvpmodel calls the mode, and its number."""

    name: str
    number: int | None


@dataclass(frozen=True, slots=True)
class JetsonState:
    """One look at the board; None = unknown. Shares are of 1.

    nvmap_bytes   all processes' GPU buffers
    pss_bytes     proportional set size of this process
    """

    gpu_load: float | None
    gpu_hz: float | None
    emc_hz: float | None
    fan: float | None
    fan_rpm: float | None
    power_mode: JetsonPowerMode | None
    memory_available_bytes: int | None
    nvmap_bytes: int | None
    pss_bytes: int | None


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether the machine itself says so."""
    return tegra(root) is not None


def tegra(root: Path = Path("/")) -> str | None:
    """The chip as the device tree names it (tegra234); "" where only other files say Jetson; None where nothing does.

    Containers hide the device tree; the release file of Jetson Linux and the family of the chip may still be seen.
    """
    for name in DEVICE_TREES:
        if found := re.search(r"nvidia,(tegra\d+)", text(root / name) or ""):
            return found[1]
    told = (root / "etc/nv_tegra_release").exists() or text(root / "sys/devices/soc0/family") == "Tegra"
    return "" if told else None


def jetson_state(root: Path = Path("/"), ask_mode: Callable[[], str | None] | None = None) -> JetsonState:
    """Look now. `ask_mode` gives the output of `nvpmodel -q`; the default runs it."""
    output = (ask_mode or run_nvpmodel)()
    return JetsonState(
        gpu_load=gpu_load(root),
        gpu_hz=gpu_hz(root),
        emc_hz=emc_hz(root),
        fan=fan(root),
        fan_rpm=fan_rpm(root),
        power_mode=None if output is None else power_mode(output),
        memory_available_bytes=_meminfo_bytes(root, "MemAvailable:"),
        nvmap_bytes=_meminfo_bytes(root, "NvMapMemUsed:"),
        pss_bytes=ProcSource(root / "proc/self").pss(),
    )


def gpu_load(root: Path) -> float | None:
    """Share of the time that the GPU was busy, by its driver."""
    per_mille = _first(root, LOADS)
    return None if per_mille is None else per_mille / 1e3


def gpu_hz(root: Path) -> float | None:
    return _first(root, tuple(f"sys/class/devfreq/{name}/cur_freq" for name in GPU_CLOCKS))


def emc_hz(root: Path) -> float | None:
    return _first(root, EMC_CLOCKS)


def fan(root: Path) -> float | None:
    """What the fan is told, as a share of full; that it turns is `fan_rpm`."""
    for folder in root.glob("sys/class/hwmon/hwmon*"):
        if text(folder / "name") == "pwmfan" and (pwm := number(folder / "pwm1")) is not None:
            return pwm / FAN_PWM_FULL
    pwm = number(root / "sys/devices/pwm-fan/cur_pwm")
    return None if pwm is None else pwm / FAN_PWM_FULL


def fan_rpm(root: Path) -> float | None:
    for folder in root.glob("sys/class/hwmon/hwmon*"):
        if text(folder / "name") == "pwm_tach":
            return number(folder / "rpm")
    return None


def power_mode(output: str) -> JetsonPowerMode | None:
    """Read what `nvpmodel -q` prints: a line with the name, then a line with the number. None when there is no name."""
    lines = [line.strip() for line in output.splitlines()]
    for line, following in pairwise([*lines, ""]):
        if found := re.match(r"NV Power Mode:\s*(\S+)", line):
            return JetsonPowerMode(found[1], int(following) if following.isdecimal() else None)
    return None


def run_nvpmodel() -> str | None:
    """Output of `nvpmodel -q`; None where there is no such command or it fails."""
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _first(root: Path, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if (value := number(root / name)) is not None), None)


def _meminfo_bytes(root: Path, label: str) -> int | None:
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return None
