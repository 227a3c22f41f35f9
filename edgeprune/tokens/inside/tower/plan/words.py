"""What a plan of cuts comes to, block by block, for people."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.tokens.inside.bars import bars


def rows_in_words(rows: Sequence[tuple[int, int]]) -> list[str]:
    """A line and a bar for every run of blocks with the same rows; rows: (that attend, that the MLP sees) by block."""
    written = [(str(attending) if attending == fed else f"{attending} -> {fed}", fed) for attending, fed in rows]
    title = "rows by block of the tower (that attend -> that the MLP sees)"
    return [title, *bars(written, max(attending for attending, _ in rows))]
