"""What a plan of cuts comes to, block by block, for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

_WIDEST = 40


def rows_in_words(rows: Sequence[tuple[int, int]]) -> list[str]:
    """A line and a bar for every run of blocks with the same rows; rows: (that attend, that the MLP sees) by block."""
    most = max(attending for attending, _ in rows)
    lines = []
    for (attending, fed), run in groupby(enumerate(rows), key=lambda one: one[1]):
        numbers = [number for number, _ in run]
        blocks = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        count = str(attending) if attending == fed else f"{attending} -> {fed}"
        lines.append(f"  {blocks:>5}  {count:>11}  {'#' * max(1, round(_WIDEST * fed / most))}")
    return ["rows by block of the tower (that attend -> that the MLP sees)", *lines]
