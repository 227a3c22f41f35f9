"""What this machine can do with edgeprune, and what stands in the way. Imports nothing that a base install lacks."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from edgeprune.abilities import Ability, abilities, asked
from edgeprune_runtime import backends
from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.installed import how_to_install, version_of
from edgeprune_runtime.meters import METERS, Environment, environment, meter

# Flags of /proc/cpuinfo that decide how fast int8 products are.
FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX int8",
    "asimddp": "Arm dot product",
    "i8mm": "Arm i8mm",
    "sve": "Arm SVE",
}
_DEVELOPERS = "dev"
_STAND_INS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}  # the GPU package holds the CPU one
_FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


@dataclass(frozen=True, slots=True)
class Package:
    """A requirement of edgeprune: `extra` "" is the base install, `installed` None is missing, `why` what to do if not `ok`."""

    name: str
    extra: str
    required: str
    installed: str | None
    ok: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class MachinePart:
    """A backend or an instrument, usable or not; None = unknown. `why` says why it is not usable, and what to do."""

    name: str
    usable: bool | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Cpu:
    """Instruction sets found, and what they mean for int8."""

    features: tuple[str, ...]
    fast_int8: bool | None
    advice: str


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes; None = unknown. `limit_bytes` is that of the container."""

    total_bytes: int | None
    available_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Checkup:
    """Everything the doctor found. `healthy`: this machine can run bundles."""

    healthy: bool
    abilities: tuple[Ability, ...]
    packages: tuple[Package, ...]
    extras: dict[str, bool]
    backends: tuple[MachinePart, ...]
    meters: tuple[MachinePart, ...]
    cpu: Cpu
    memory: MachineMemory
    environment: Environment
    advice: tuple[str, ...]


def examine(root: Path = Path("/")) -> Checkup:
    """Look around. `root` is where /proc and /sys are looked for."""
    needed = ((requirement, _extra_of(requirement)) for requirement in _requirements())
    packages = tuple(_package(requirement, extra) for requirement, extra in needed if extra is not None)
    engines = tuple(_backend(name) for name in backends.BACKENDS)
    base = all(p.ok for p in packages if not p.extra)
    facts = environment(root)
    lacking = next((f"{p.name}: {p.why}" for p in packages if not p.extra and not p.ok), None)
    return Checkup(
        healthy=base and any(engine.usable for engine in engines),
        abilities=abilities({engine.name: engine.why for engine in engines}, lacking),
        packages=packages,
        extras={extra: all(p.ok for p in packages if p.extra == extra) for extra in _extras()},
        backends=engines,
        meters=tuple(MachinePart(name, *asked(lambda name=name: meter(name).why_unavailable())) for name in METERS),  # type: ignore[misc]
        cpu=_cpu(root),
        memory=_memory(root, facts),
        environment=facts,
        advice=_advice(facts),
    )


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(text) for text in metadata.requires("edgeprune") or []]
    except metadata.PackageNotFoundError:  # a source folder on the path, not installed
        return []


def _extra_of(requirement: Requirement) -> str | None:
    """The extra that needs it on this Python, "" for the base install; None: nobody who uses edgeprune does."""
    marker = requirement.marker
    return next((extra for extra in ("", *_extras()) if marker is None or marker.evaluate({"extra": extra})), None)


def _package(requirement: Requirement, extra: str) -> Package:
    name, bounds = requirement.name, str(requirement.specifier)
    installed = version_of(*_STAND_INS.get(name, (name,)))
    if installed is not None and _within(installed, requirement.specifier):
        return Package(name, extra, bounds, installed, True, None)
    found = "not installed" if installed is None else f"{installed} found, {bounds} needed"
    return Package(name, extra, bounds, installed, False, f"{found}; {how_to_install(name)}")


def _within(version: str, bounds: SpecifierSet) -> bool:
    """Whether a version is within bounds; one that is no version of Python's is not."""
    try:
        return bounds.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _extras() -> list[str]:
    try:
        named = metadata.metadata("edgeprune").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    return [extra for extra in named if extra != _DEVELOPERS]


def _backend(name: str) -> MachinePart:
    def why_not() -> str | None:
        try:
            backends.backend(name)
        except BackendUnavailable as error:
            return str(error)
        return None

    return MachinePart(name, *asked(why_not))


def _cpu(root: Path) -> Cpu:
    words: set[str] = set()
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            words.update(value.split())
    features = tuple(text for flag, text in FLAGS.items() if flag in words)
    if not words:
        return Cpu((), None, "the instruction sets of this processor are unknown: measure int8 before relying on it")
    if words & _FAST_INT8:
        return Cpu(
            features, True, "this processor has int8 dot products: int8 bundles can be much faster than fp32 ones"
        )
    return Cpu(
        features,
        False,
        "this processor has no int8 dot products: int8 bundles save memory, but may be no faster than fp32",
    )


def _memory(root: Path, facts: Environment) -> MachineMemory:
    available = next(
        (int(line.split()[1]) * 1024 for line in _read(root / "proc/meminfo").splitlines() if line.startswith("MemAvailable:")),
        None,
    )  # fmt: skip
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    return MachineMemory(facts.memory_bytes, available, int(limit) if limit.isdigit() else None)


def _advice(facts: Environment) -> tuple[str, ...]:
    found = []
    if facts.governor not in (None, "performance"):
        found.append(
            f"the frequency governor is {facts.governor}: for steady measurements run "
            "`sudo cpupower frequency-set -g performance`"
        )
    if facts.isolation is not None:
        found.append(f"signs of {facts.isolation}: neighbours may disturb measurements, so profile with more --runs")
    if facts.cpu_quota_cores is not None:
        found.append(
            f"the container is limited to {facts.cpu_quota_cores:g} cores: pass --threads {max(1, int(facts.cpu_quota_cores))}"
        )
    if version_of("onnxruntime-gpu") is not None and version_of("onnxruntime") is not None:
        found.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "`pip uninstall onnxruntime onnxruntime-gpu`, then install one of them"
        )
    if sys.version_info >= (3, 14):
        found.append("edgeprune is tested on Python 3.10 to 3.13")
    return tuple(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
