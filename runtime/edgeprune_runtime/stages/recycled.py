"""How many rows stand for those that leave, where what leaves is clustered (SparseVLM 1.5)."""

from __future__ import annotations


def recycled(leaving: int) -> int:
    """Rows that stay for so many that leave: one for each ten of the 3 in 10 that are clustered, and one more."""
    return 0 if leaving <= 0 else (3 * leaving // 10 + 1) // 10 + 1


def most_recycled(rows: int) -> tuple[int, int]:
    """Where at most so many leave: most rows that are clustered, and most that stay for them."""
    return 3 * rows // 10 + 1, recycled(rows)
