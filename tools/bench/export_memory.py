"""Memory of `edgeprune export` with its parity gate: once under a limit that the kernel enforces, once without."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from edgeprune_profiles.report import units
from tools.bench.assets import checkpoint, export, size_of
from tools.bench.limit import Group, forget, memory_limit
from tools.bench.page import Section, Target
from tools.bench.process import Ended
from tools.bench.rounds import Journal
from tools.bench.settings import Settings, say

GIB = 1 << 30
FINISHED, KILLED = "finished", "killed by the kernel"


def measure(journal: Journal, settings: Settings) -> tuple[list[Target], Section]:
    """Exports under budgets 1.0 and 0.2 in both precisions."""
    model = checkpoint(settings, settings.export_size)
    disk = size_of(model)
    limit = int(1.3 * disk + GIB)
    targets, rows = [], []
    for precision in ("fp32", "int8"):
        limited, free = (
            journal.once(f"{precision} export, {name}", lambda: _export(settings, model, precision, most))  # noqa: B023
            for name, most in (("limited", limit), ("not limited", None))
        )
        bound = f"{units.size(disk)} stays under 1.3 x that + 1 GiB = {units.size(limit)}"
        targets.append(_target(f"{precision} export, with its gate, of {bound}", limited, limit))
        rows += [_row(precision, units.size(limit), limited), _row(precision, "none", free)]
    head = ["precision", "limit", "export", "peak charged", "peak anonymous", "peak unique resident", "peak resident"]
    head += ["bundle on disk", "wall", "processor"]
    text = (
        "Budgets 1.0 and 0.2, parity gate on. The limit is a control group's: the kernel charges it with anonymous memory and with the "
        "page cache of every file that the export reads, writes or maps, drops such pages when the limit is reached, and kills when that "
        "is not enough; `peak charged` is its own mark and reaches the limit as soon as files fill it. Pages of files that "
        "other processes brought in first, such as the code of libraries, are charged to those: the unique size holds them and can be "
        "above the limit. The rows without a limit show what dropping pages costs in time. The checkpoint is not in the page cache "
        "when an export starts. The resident size counts a mapped page once for every graph that maps it; unique counts it once (PSS, "
        "read every half second)."
    )
    return targets, Section("Export", text, head, rows)


def _target(promise: str, seen: dict[str, Any], limit: int) -> Target:
    """Met when it finished where the kernel enforces the limit; where it cannot, anonymous memory alone decides."""
    how = "without a kernel limit" if seen["unlimited"] else "under a kernel limit of that"
    found = f"{seen['outcome']} {how}, peak anonymous {units.size(seen['anonymous'])}"
    return Target(promise, found, seen["outcome"] == FINISHED and seen["anonymous"] <= limit)


def _row(precision: str, limit: str, seen: dict[str, Any]) -> list[str]:
    sizes = [units.size(seen[kind]) for kind in ("anonymous", "unique", "peak", "disk")]
    charged = "-" if seen["charged"] is None else units.size(seen["charged"])
    shown = f"none: {seen['unlimited']}" if seen["unlimited"] else limit
    return [precision, shown, seen["outcome"], charged, *sizes, f"{seen['wall']:.0f} s", f"{seen['cpu']:.0f} s"]


def _export(settings: Settings, model: Path, precision: str, limit: int | None) -> dict[str, Any]:
    """Peaks in bytes and times in seconds of one export; `unlimited` says why a wanted limit could not be set."""
    say(f"exporting {model.name} in {precision} {'without a limit' if limit is None else f'in {units.size(limit)}'}")
    out, log = settings.work / "watched-export", settings.work / "watched-export.log"
    shutil.rmtree(out, ignore_errors=True)
    forget(model.glob("*.safetensors"))
    with nullcontext("") if limit is None else memory_limit(limit) as group:
        limited = isinstance(group, Group)
        outcome = FINISHED
        try:
            seen = export(model, out, precision, ("1.0", "0.2"), log, enter=group.inside if limited else list)
        except Ended as error:
            if not (limited and group.killed()):
                raise
            outcome, seen = KILLED, error.seen
        charged = group.peak_bytes() if limited else None
    found = {
        "outcome": outcome,
        "unlimited": None if limited or limit is None else group,
        "anonymous": seen.anonymous_bytes,
        "charged": charged,
        "unique": seen.unique_bytes,
        "peak": seen.peak_bytes,
        "disk": size_of(out) if outcome == FINISHED else None,
    }
    shutil.rmtree(out, ignore_errors=True)
    return found | {"wall": seen.wall_s, "cpu": seen.cpu_s}
