"""What a number was measured on. Everything that cannot be found out stays None and is shown as "unknown"."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


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


DISTRIBUTIONS = {
    "edgeprune": ("edgeprune",),
    "numpy": ("numpy",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}


def environment(root: Path = Path("/")) -> Environment:
    """Look around. `root` is where /proc and /sys are looked for. Imports onnxruntime, so it takes a moment."""
    blocks = _cpuinfo(root)
    frequency = root / "sys/devices/system/cpu/cpufreq"
    return Environment(
        cpu_model=_cpu_model(root, blocks),
        cores_logical=len(blocks) or os.cpu_count(),
        cores_physical=_cores_physical(blocks),
        cores_usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        cpu_quota_cores=_cpu_quota(root),
        governor=", ".join(sorted({_text(file) or "?" for file in frequency.glob("policy*/scaling_governor")})) or None,
        frequency_min_hz=min(_khz(frequency, "scaling_min_freq"), default=None),
        frequency_max_hz=max(_khz(frequency, "scaling_max_freq"), default=None),
        memory_bytes=_memory_bytes(root),
        system=_os_name(root),
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        isolation=_isolation(root, blocks),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: _version(candidates) for name, candidates in DISTRIBUTIONS.items()},
        providers=_providers(),
    )


def _text(path: Path) -> str | None:
    """The file's text, stripped; None when it cannot be read or is empty."""
    try:
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _cpuinfo(root: Path) -> list[dict[str, str]]:
    """One mapping per logical processor."""
    blocks = []
    for block in (_text(root / "proc/cpuinfo") or "").split("\n\n"):
        pairs = [line.split(":", 1) for line in block.splitlines() if ":" in line]
        fields = {key.strip(): value.strip() for key, value in pairs}
        if "processor" in fields:
            blocks.append(fields)
    return blocks


def _cpu_model(root: Path, blocks: list[dict[str, str]]) -> str | None:
    for fields in blocks:
        if model := fields.get("model name"):
            return model
    if board := _text(root / "proc/device-tree/model"):  # ARM boards name themselves here
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
    count = psutil.cpu_count(logical=False)
    return None if count is None else int(count)


def _cpu_quota(root: Path) -> float | None:
    quota, _, period = (_text(root / "sys/fs/cgroup/cpu.max") or "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _khz(frequency: Path, file: str) -> list[int]:
    texts = [_text(path) for path in frequency.glob(f"policy*/{file}")]
    return [int(text) * 1000 for text in texts if text is not None and text.isdigit()]


def _memory_bytes(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)


def _os_name(root: Path) -> str:
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform(terse=True)


def _isolation(root: Path, blocks: list[dict[str, str]]) -> str | None:
    signs = []
    if any("hypervisor" in fields.get("flags", "").split() for fields in blocks):
        vendor = _text(root / "sys/class/dmi/id/sys_vendor")
        signs.append(f"virtual machine ({vendor or 'hypervisor flag of the processor'})")
    groups = _text(root / "proc/1/cgroup") or ""
    marks = {".dockerenv": "docker", "run/.containerenv": "podman"}
    container = next((name for file, name in marks.items() if (root / file).exists()), None)
    container = container or next((name for name in ("docker", "kubepods", "lxc") if name in groups), None)
    if container:
        signs.append(f"container ({container})")
    return ", ".join(signs) or None


def _version(candidates: tuple[str, ...]) -> str | None:
    for name in candidates:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _providers() -> tuple[str, ...] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return tuple(onnxruntime.get_available_providers())
