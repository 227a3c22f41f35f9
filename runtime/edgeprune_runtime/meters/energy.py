"""Energy of the processor packages from RAPL counters, through Linux' powercap files (Intel, and AMD since Zen).

Only domains named package-* are added up: core, uncore and dram lie inside or beside them and psys covers them all, so
adding those would count twice. The counters belong to the whole machine: another busy program is measured too.
They wrap around at max_energy_range_uj, which a large server reaches within minutes, so a window reads them repeatedly.
A counter that is missing, unreadable or does not move reads None, "unknown"; it never reads 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.meters.power.base import Tick
from edgeprune_runtime.meters.sampler import sampled

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """`energy_j` joules over `duration_s` seconds; None = unknown, and then `source` says why."""

    source: str
    energy_j: float | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Domain:
    """One package counter. Microjoules are RAPL's own unit and leave this file only as joules."""

    name: str
    file: Path
    range_uj: int

    def read_uj(self) -> int:
        return int(self.file.read_text())


def find_domains(root: Path) -> tuple[Domain, ...]:
    """Package domains under `root`, in the kernel's order. Raises OSError or ValueError when one cannot be read."""
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") != 1:  # intel-rapl:0:0 is a part of intel-rapl:0
            continue
        name = (folder / "name").read_text().strip()
        if name.startswith("package"):
            domain = Domain(name, folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
            domain.read_uj()
            found.append(domain)
    return tuple(found)


class RaplSource:
    """All packages of the machine as one counter: joules since it was opened."""

    covers: ClassVar[str] = "cpu"
    averaging_s: ClassVar[float | None] = None
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, domains: tuple[Domain, ...]) -> None:
        self.name = "rapl:" + "+".join(domain.name for domain in domains)
        self._domains = domains
        self._last: dict[Domain, int] = {}
        self._total_uj = 0
        self._wraps = 0
        self.lost: str | None = None

    def read(self) -> Tick:
        for domain in self._domains:
            try:
                now = domain.read_uj()
            except (OSError, ValueError) as error:
                self.lost = f"{domain.name} stopped answering: {error}"
                return Tick()
            step = now - self._last.get(domain, now)
            self._wraps += step < 0
            self._total_uj += step if step >= 0 else step + domain.range_uj
            self._last[domain] = now
        return Tick(energy_j=self._total_uj / 1e6, wraps=self._wraps)


def open_rapl(root: Path = POWERCAP) -> RaplSource:
    """Raises MeasurementError, with the reason and what to do, where no package counter can be read."""
    domains, why = _probe(root)
    if why is not None:
        raise MeasurementError(why)
    return RaplSource(domains)


class EnergyWindow:
    def __init__(self, source: RaplSource, why: str | None, clock_ns: Callable[[], int]) -> None:
        self._source = source
        self._why = why
        self._clock_ns = clock_ns
        self._energy_j: float | None = None
        self._reading: EnergyReading | None = None
        self._start_ns = clock_ns()

    def sample(self) -> None:
        self._energy_j = self._source.read().energy_j
        self._why = self._why or self._source.lost

    def close(self) -> None:
        duration_s = (self._clock_ns() - self._start_ns) / 1e9
        source = self._source.name
        if self._why is None and not self._energy_j:
            self._why = f"{source} did not move"
        energy_j = self._energy_j if self._why is None else None
        self._reading = EnergyReading(source if self._why is None else f"unknown: {self._why}", energy_j, duration_s)

    def reading(self) -> EnergyReading:
        if self._reading is None:
            raise RuntimeError("the energy window is still open; leave its `with` block first")
        return self._reading


class EnergyMeter:
    """RAPL package energy. `root` is the powercap folder; `period_s` must stay below the time of one wrap-around."""

    name: ClassVar[str] = "rapl"

    def __init__(
        self, root: Path = POWERCAP, period_s: float = 20.0, clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._root = root
        self._period_s = period_s
        self._clock_ns = clock_ns

    def why_unavailable(self) -> str | None:
        return _probe(self._root)[1]

    @contextmanager
    def window(self) -> Iterator[EnergyWindow]:
        domains, why = _probe(self._root)
        window = EnergyWindow(RaplSource(domains), why, self._clock_ns)
        if why is None:
            with sampled(window.sample, self._period_s):
                yield window
        else:
            yield window
        window.close()


def _probe(root: Path) -> tuple[tuple[Domain, ...], str | None]:
    if not root.is_dir():
        return (), (
            f"{root} does not exist: RAPL counters need Linux on a bare x86 machine; "
            "virtual machines, most containers and ARM boards do not show them"
        )
    try:
        domains = find_domains(root)
    except PermissionError as error:
        return (), (
            f"a RAPL counter cannot be read ({error}). Most kernels let only root read it: "
            f"run as root, or `sudo chmod a+r {root}/intel-rapl:*/energy_uj`"
        )
    except (OSError, ValueError) as error:
        return (), (
            f"a RAPL counter does not answer ({error}), for root neither: the processor, its firmware or the machine around "
            "it does not offer it; measure at the plug instead"
        )
    if not domains:
        return (), (
            f"{root} has no RAPL package domain; load the module with "
            "`sudo modprobe intel_rapl_msr`, or run on a bare x86 machine"
        )
    return domains, None
