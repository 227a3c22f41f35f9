"""edgeprune importances: what can decide which heads, channels and blocks stay."""

from __future__ import annotations

from edgeprune.cli.console import Json, emit, errors_as_one_line
from edgeprune.cli.tables import columns, show_table


def importances(json: Json = False) -> None:
    """List importances of units and of blocks, allocations and normalisations for `edgeprune prune`."""
    with errors_as_one_line():
        from edgeprune.structure.allocate import ALLOCATIONS
        from edgeprune.structure.importance import BLOCK_IMPORTANCES, IMPORTANCES, BlockImportance, Importance
        from edgeprune.structure.normalise import NORMALISATIONS

        units = [IMPORTANCES[name] for name in IMPORTANCES]
        blocks = [BLOCK_IMPORTANCES[name] for name in BLOCK_IMPORTANCES]
        everything: list[Importance | BlockImportance] = [*units, *blocks]
        if json:
            rows = [{"name": i.name, "what": i.what, "source": i.source, "evidence": i.evidence} for i in everything]
            emit({"units": rows[: len(units)], "blocks": rows[len(units) :], "allocations": list(ALLOCATIONS)})
            return
        head = ("name", "stays what has more of", "needs", "source", "evidence")
        show_table(
            "heads and channels (--importance)",
            columns(head, head),
            [
                (
                    i.name,
                    i.what,
                    "nothing" if not i.needs else "pictures or noise" if i.noise else "pictures",
                    i.source,
                    i.evidence,
                )
                for i in units
            ],
        )
        show_table(
            "whole blocks (--block-importance)",
            columns(head, head),
            [(b.name, b.what, "pictures", b.source, b.evidence) for b in blocks],
        )
        show_table(
            "how much each layer gives up (--allocation)",
            columns(("name", "rule", "source"), ("name", "rule", "source")),
            [(a.name, a.what, a.source) for a in map(ALLOCATIONS.get, ALLOCATIONS)],
        )
        show_table(
            "scores of layers made to compare (--normalise)",
            columns(("name", "rule"), ("name", "rule")),
            [(name, (NORMALISATIONS.get(name).__doc__ or "").partition(":")[0]) for name in NORMALISATIONS],
        )
