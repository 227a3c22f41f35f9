"""Rows by block or by layer as lines with bars, for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

_WIDEST = 40


def bars(rows: Sequence[tuple[str, int]], most: int) -> list[str]:
    """A line for every run of neighbours with the same rows: (as written, how many) by number of the block; most: of a whole bar."""
    lines = []
    for (written, count), run in groupby(enumerate(rows), key=lambda one: one[1]):
        numbers = [number for number, _ in run]
        where = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        bar = "#" * max(1 if count else 0, round(_WIDEST * count / most))
        lines.append(f"  {where:>5}  {written:>11}  {bar}".rstrip())
    return lines


def layers_in_words(rows: Sequence[int]) -> list[str]:
    """Rows of a picture by layer of the language model."""
    return ["visual rows by layer of the language model", *bars([(str(one), one) for one in rows], max((*rows, 1)))]
