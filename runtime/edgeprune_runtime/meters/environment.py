"""What a number was measured on. Everything that cannot be found out stays None and is shown as "unknown"."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeprune_runtime.installed import version_of
from edgeprune_runtime.meters.boards.jetson import is_jetson, power_mode, run_nvpmodel
from edgeprune_runtime.meters.sysfs import number, text


@dataclass(frozen=True, slots=True)
class Environment:
    """One machine and its software at the time of a measurement. None = unknown; `governor` joins distinct values."""

    cpu_model: str | None
    cores_logical: int | None
    cores_physical: int | None
    cores_usable: int | None  # by affinity; a container may see all and be given few
    cpu_quota_cores: float | None  # cgroup limit; None = no limit found
    governor: str | None
    frequency_min_hz: int | None
    frequency_max_hz: int | None
    memory_bytes: int | None
    system: str
    kernel: str
    machine: str
    isolation: str | None  # "virtual machine (...)", "container (...)", or None = no sign of either
    python: str
    versions: dict[str, str | None]
    providers: tuple[str, ...] | None  # onnxruntime's, in its order of preference
    power_mode: str | None = None  # nvpmodel's name for it, on a Jetson


DISTRIBUTIONS = {
    "edgeprune": ("edgeprune",),
    "numpy": ("numpy",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}


def environment(root: Path = Path("/"), ask_mode: Callable[[], str | None] = run_nvpmodel) -> Environment:
    """Look around. `root` is where /proc and /sys are looked for. Imports onnxruntime, so it takes a moment.

    `ask_mode` gives the output of `nvpmodel -q`; it is asked on a Jetson only.
    """
    blocks = _cpuinfo(root)
    frequency = root / "sys/devices/system/cpu/cpufreq"
    return Environment(
        cpu_model=_cpu_model(root, blocks),
        cores_logical=len(blocks) or os.cpu_count(),
        cores_physical=_cores_physical(blocks),
        cores_usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        cpu_quota_cores=_cpu_quota(root),
        governor=", ".join(sorted({text(file) or "?" for file in frequency.glob("policy*/scaling_governor")})) or None,
        frequency_min_hz=min(_khz(frequency, "scaling_min_freq"), default=None),
        frequency_max_hz=max(_khz(frequency, "scaling_max_freq"), default=None),
        memory_bytes=_memory_bytes(root),
        system=_os_name(root),
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        isolation=_isolation(root, blocks),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: version_of(*candidates) for name, candidates in DISTRIBUTIONS.items()},
        providers=_providers(),
        power_mode=_power_mode(root, ask_mode),
    )


def _cpuinfo(root: Path) -> list[dict[str, str]]:
    """One mapping per logical processor."""
    blocks = []
    for block in (text(root / "proc/cpuinfo") or "").split("\n\n"):
        pairs = [line.split(":", 1) for line in block.splitlines() if ":" in line]
        fields = {key.strip(): value.strip() for key, value in pairs}
        if "processor" in fields:
            blocks.append(fields)
    return blocks


def _cpu_model(root: Path, blocks: list[dict[str, str]]) -> str | None:
    for fields in blocks:
        if model := fields.get("model name"):
            return model
    if board := text(root / "proc/device-tree/model"):  # ARM boards name themselves here
        return board
    for fields in blocks:
        if part := fields.get("CPU part"):
            return f"ARM implementer {fields.get('CPU implementer', '?')} part {part}"
    return platform.processor() or None


def _cores_physical(blocks: list[dict[str, str]]) -> int | None:
    cores = {(fields.get("physical id"), fields["core id"]) for fields in blocks if "core id" in fields}
    if cores:
        return len(cores)
    try:
        import psutil
    except ImportError:
        return None
    try:
        count = psutil.cpu_count(logical=False)
    except (OSError, RuntimeError):  # no /proc
        return None
    return None if count is None else int(count)


def _cpu_quota(root: Path) -> float | None:
    quota, _, period = (text(root / "sys/fs/cgroup/cpu.max") or "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _khz(frequency: Path, file: str) -> list[int]:
    found = [number(path) for path in frequency.glob(f"policy*/{file}")]
    return [khz * 1000 for khz in found if khz is not None]


def _memory_bytes(root: Path) -> int | None:
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    try:
        import psutil
    except ImportError:
        return None
    try:
        return int(psutil.virtual_memory().total)
    except (OSError, RuntimeError):  # no /proc
        return None


def _os_name(root: Path) -> str:
    for line in (text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform(terse=True)


def _isolation(root: Path, blocks: list[dict[str, str]]) -> str | None:
    signs = []
    if any("hypervisor" in fields.get("flags", "").split() for fields in blocks):
        vendor = text(root / "sys/class/dmi/id/sys_vendor")
        signs.append(f"virtual machine ({vendor or 'hypervisor flag of the processor'})")
    groups = text(root / "proc/1/cgroup") or ""
    marks = {".dockerenv": "docker", "run/.containerenv": "podman"}
    container = next((name for file, name in marks.items() if (root / file).exists()), None)
    container = container or next((name for name in ("docker", "kubepods", "lxc") if name in groups), None)
    if container:
        signs.append(f"container ({container})")
    return ", ".join(signs) or None


def _power_mode(root: Path, ask_mode: Callable[[], str | None]) -> str | None:
    output = ask_mode() if is_jetson(root) else None
    mode = None if output is None else power_mode(output)
    return None if mode is None else mode.name


def _providers() -> tuple[str, ...] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return tuple(onnxruntime.get_available_providers())
