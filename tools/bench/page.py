"""One page of results: conditions, targets with their verdicts, tables; and its raw samples beside it as JSON."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeprune_profiles.report import units
from edgeprune_runtime.installed import version_of
from edgeprune_runtime.meters.environment import environment
from edgeprune_runtime.statistics import LEAST, Ratio
from tools.bench.settings import Settings

_PACKAGES = ("onnxruntime", "numpy", "torch", "transformers", "onnx")


@dataclass(frozen=True)
class Target:
    """What was promised, what was found; met None: not measured."""

    promise: str
    found: str
    met: bool | None


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Page:
    name: str
    title: str
    text: str
    sections: Sequence[Section]
    targets: Sequence[Target] = ()
    samples: dict[str, Any] = field(default_factory=dict)


def at_least(promise: str, ratio: Ratio, wanted: float) -> Target:
    """A ratio that should be high; judged by its point, with the interval beside it."""
    return Target(promise, interval(ratio), ratio.point >= wanted)


def at_most(promise: str, found: str, value: float, wanted: float) -> Target:
    return Target(promise, found, value <= wanted)


def interval(ratio: Ratio) -> str:
    """`5.12x [5.01, 5.20] of 6 pairs`; one that supports no claim says so."""
    weak = "" if ratio.distinguishable else ", not distinguishable from 1" if ratio.n >= LEAST else ", too few to claim"
    return f"{ratio.point:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}] of {ratio.n} pairs{weak}"


def brief(ratio: Ratio) -> str:
    """The same for a table whose text states the number of pairs: `?` marks what supports no claim."""
    return f"{ratio.point:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" + ("" if ratio.distinguishable else " ?")


BRIEF = "Ratios are medians over pairs with a 95 % interval; `?` marks one that supports no claim: its interval holds 1, or pairs are too few."


def write_page(page: Page, out: Path, settings: Settings) -> Path:
    """Write <out>/<name>.md and .json; returns the first."""
    out.mkdir(parents=True, exist_ok=True)
    machine = environment()
    versions = {name: version_of(name) for name in _PACKAGES}
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    facts = [
        ["measured", created],
        ["command", f"`python tools/bench.py {shlex.join(sys.argv[1:])}`"],
        ["options", ", ".join(f"{name} {value}" for name, value in settings.shown().items())],
        ["processor", f"{machine.cpu_model or units.UNKNOWN}, {machine.isolation or 'no sign of a virtual machine'}"],
        ["cores", f"{units.count(machine.cores_usable)} usable of {units.count(machine.cores_logical)}"],
        ["governor", machine.governor or units.UNKNOWN],
        ["memory", units.size(machine.memory_bytes)],
        ["load when written", " ".join(f"{load:.1f}" for load in os.getloadavg()) + " (1, 5, 15 minutes)"],
        ["system", f"{machine.system}, {machine.kernel}, {machine.python}"],
        ["versions", ", ".join(f"{name} {found or 'not installed'}" for name, found in versions.items())],
    ]
    blocks = [f"# {page.title}", page.text]
    if page.targets:
        verdicts = {True: "met", False: "**missed**", None: "not measured"}
        blocks += [
            "## Targets",
            table(["target", "found", ""], [[t.promise, t.found, verdicts[t.met]] for t in page.targets]),
        ]
    for section in page.sections:
        blocks += [f"## {section.title}"] + ([section.text] if section.text else [])
        blocks += [table(section.head, section.rows)] if section.rows else []
    blocks += ["## Conditions", table(["", ""], facts), f"Raw samples: `{page.name}.json`."]
    path = out / f"{page.name}.md"
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    raw = {
        "created": created,
        "settings": settings.shown(),
        "environment": asdict(machine),
        "versions": versions,
        "targets": [asdict(target) for target in page.targets],
        "samples": _rounded(page.samples),
    }
    path.with_suffix(".json").write_text(json.dumps(raw, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def _rounded(value: Any) -> Any:
    """Microseconds are as fine as these clocks are worth."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value
