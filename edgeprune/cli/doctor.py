"""edgeprune doctor: what is installed, what works here, and what to do about the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out
from edgeprune.cli.tables import Column, show_table

if TYPE_CHECKING:
    from edgeprune.doctor import Checkup, Package


def doctor(json: Json = False) -> None:
    """Say what is installed, which backends and sensors work, and what to do about those that do not.

    Exit code 1 when this machine cannot run bundles.
    """
    with errors_as_one_line():
        from edgeprune.doctor import examine

        found = examine()
        if json:
            emit(found)
        else:
            _show(found)
        if not found.healthy:
            raise typer.Exit(1)


def _show(found: Checkup) -> None:
    from edgeprune_profiles.report import units

    can = [[ability.name, _mark(ability.can), ability.why or ""] for ability in found.abilities]
    show_table("What this machine can do", _columns("task", "here", "why not, and what to do"), can)
    facts, memory = found.environment, found.memory
    out.print(
        f"{facts.python}, {facts.system}, {facts.kernel}, {facts.machine}\n"
        f"processor: {facts.cpu_model or units.UNKNOWN}, {units.count(facts.cores_usable)} cores usable; "
        f"{', '.join(found.cpu.features) or 'instruction sets unknown'}\n"
        f"int8: {found.cpu.advice}\n"
        f"memory: {units.size(memory.total_bytes)}, {units.size(memory.available_bytes)} available, container limit "
        f"{'none found' if memory.limit_bytes is None else units.size(memory.limit_bytes)}\n"
        f"onnxruntime providers: {', '.join(facts.providers or ()) or units.UNKNOWN}",
        highlight=False,
        markup=False,
    )
    out.print()
    parts = [[part.name, _mark(part.usable), part.why or ""] for part in (*found.backends, *found.meters)]
    show_table("Backends and instruments", _columns("name", "usable", "why, and what to do"), parts)
    head = _columns("package", "for", "needed", "installed", "ok", "what to do")
    show_table("Packages", head, [_package(p) for p in found.packages])
    for sentence in found.advice:
        out.print(f"note: {sentence}", highlight=False, markup=False)
    if not found.healthy:
        out.print("This machine cannot run bundles yet: mend the lines marked `no` of the base install.")


def _columns(*heads: str) -> list[Column]:
    """The last one holds sentences."""
    return [Column(head, left=True, wraps=head == heads[-1]) for head in heads]


def _package(p: Package) -> list[str]:
    return [p.name, p.extra or "base", p.required, p.installed or "-", _mark(p.ok), p.why or ""]


def _mark(fine: bool | None) -> str:
    return "unknown" if fine is None else "yes" if fine else "no"
