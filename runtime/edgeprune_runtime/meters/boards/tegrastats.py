"""One line of `tegrastats` as data: a second source beside sysfs, and the way to read logs that others have kept.

Forms differ by JetPack: a date or none; `X%`, `X%@F`, `@F`, `F`, `X%@[F,F]`, `@[F,F]` or `off` behind an engine's name;
`[a%@F,b%@F,off]` or `[a%,off]@F` for processors, which JetPack 3 calls `cpu`;
one, two or three powers (now/average/highest) with or without `mW`;
one or two temperatures (now/highest). A token that is not known is passed over, so a newer tegrastats is still read.
Clocks are MHz there, Hz here; powers mW there, W here. A sensor that is switched off (-256 C) is left out. Averages are
since tegrastats began, not of a window, so they are kept but say nothing about one run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = {"B": 1, "kB": 1 << 10, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_OFF_C = -200.0
_DATE = re.compile(r"^\d{2}-\d{2}-\d{4} \d{2}:\d{2}:\d{2}")
_MEMORY = re.compile(r"\b(RAM|SWAP|IRAM) (\d+)/(\d+)([kKMG]?B)")
_BLOCKS = re.compile(r"\(lfb (\d+)x(\d+)([kKMG]?B)\)")
_CORES = re.compile(r"\b(?:CPU|cpu) \[([^\]]*)\](?:@(\d+))?")
_CORE = re.compile(r"^(?:(\d+)%)?(?:@(\d+))?$")
_ENGINE = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (?:(off)|(\d+)|(?:(\d+)%)?(?:@(?:\[([\d,]*)\]|(\d+)))?)(?=\s|$)")
_MTS = re.compile(r"\bMTS fg (\d+)% bg (\d+)%")
_DEGREES = re.compile(r"(?<!\S)([A-Za-z][A-Za-z0-9_.-]*)@(-?\d+(?:\.\d+)?)C(?:/(-?\d+(?:\.\d+)?)C)?(?=\s|$)")
_POWER = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)(mW)?/(-?\d+)(?:mW)?(?:/(-?\d+)(?:mW)?)?(?=\s|$)")
_POWER_ALONE = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)mW(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Engine:
    """A core, the GPU, the memory controller or a codec. `load` is a share of 1; None = not said. One clock per cluster."""

    on: bool
    load: float | None = None
    clocks_hz: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RailPower:
    """A rail. `average_w` and `highest_w` are since tegrastats began."""

    now_w: float
    average_w: float | None = None
    highest_w: float | None = None


@dataclass(frozen=True, slots=True)
class TegrastatsLine:
    """What one line said; what it did not say is None or missing. `memory_bytes` is name -> (used, all)."""

    date: str | None
    memory_bytes: dict[str, tuple[int, int]]
    largest_free_block_bytes: int | None
    cores: tuple[Engine, ...]
    engines: dict[str, Engine]
    temperature_c: dict[str, float]
    power: dict[str, RailPower]


def parse(line: str) -> TegrastatsLine:
    """Read one line, of any JetPack; nothing known in it gives a Line without contents."""
    date = _DATE.match(line)
    block = _BLOCKS.search(line)
    degrees = {name: float(now) for name, now, _ in _DEGREES.findall(line)}
    return TegrastatsLine(
        date=None if date is None else date[0],
        memory_bytes={
            name: (int(used) * _UNITS[unit], int(whole) * _UNITS[unit])
            for name, used, whole, unit in _MEMORY.findall(line)
        },
        largest_free_block_bytes=None if block is None else int(block[2]) * _UNITS[block[3]],
        cores=_cores(line),
        engines=_engines(line),
        temperature_c={name: now for name, now in degrees.items() if now > _OFF_C},
        power=_powers(line),
    )


def _cores(line: str) -> tuple[Engine, ...]:
    found = _CORES.search(line)
    if found is None:
        return ()
    shared = found[2]
    cores = []
    for word in found[1].split(","):
        core = _CORE.match(word.strip())
        if core is None or word.strip() == "":
            cores.append(Engine(on=False))
        else:
            mhz = core[2] or shared
            cores.append(Engine(True, None if core[1] is None else int(core[1]) / 100, _hertz(mhz)))
    return tuple(cores)


def _engines(line: str) -> dict[str, Engine]:
    found = {one[1]: _engine(one) for one in _ENGINE.finditer(line) if one[0].split()[1:]}
    if loads := _MTS.search(line):
        found |= {
            f"MTS {which}": Engine(True, int(load) / 100)
            for which, load in zip(("fg", "bg"), loads.groups(), strict=True)
        }
    return found


def _engine(found: re.Match[str]) -> Engine:
    off, alone, load, several, one = found.groups()[1:]
    if off:
        return Engine(on=False)
    return Engine(True, None if load is None else int(load) / 100, _hertz(alone or several or one))


def _hertz(mhz: str | None) -> tuple[float, ...]:
    return tuple(float(value) * 1e6 for value in (mhz or "").split(",") if value)


def _powers(line: str) -> dict[str, RailPower]:
    found = {name: RailPower(int(now) / 1e3) for name, now in _POWER_ALONE.findall(line)}
    for name, now, _, average, highest in _POWER.findall(line):
        if name not in ("RAM", "SWAP", "IRAM"):
            found[name] = RailPower(int(now) / 1e3, int(average) / 1e3, int(highest) / 1e3 if highest else None)
    return found
