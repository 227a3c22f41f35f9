"""Rows that a stage can take beside those of the one before: such as come back, and such as stand for rows that leave."""

from __future__ import annotations

from edgeprune_runtime.spec import LanguageSpec


def recycled(leaving: int) -> int:
    """Rows that stay for so many that leave, as in SparseVLM 1.5: one for each ten of the 3 in 10 that are clustered, and one more."""
    return 0 if leaving <= 0 else (3 * leaving // 10 + 1) // 10 + 1


def most_recycled(rows: int) -> tuple[int, int]:
    """Where at most so many leave: most rows that are clustered, and most that stay for them."""
    return 3 * rows // 10 + 1, recycled(rows)


def rows_beside(spec: LanguageSpec, number: int) -> int:
    """Room for such rows before a stage: for the prompt where rows come back, for means of rows that leave; 0: there are none."""
    stage = spec.stages[number]
    if stage.recycles:
        return recycled(spec.stages[number - 1].capacity)
    return spec.capacity if stage.returns else 0


def states_before(spec: LanguageSpec, number: int) -> int:
    """Rows that a stage behind a cut can take from: what the one before makes of its own, and those beside them."""
    return spec.stages[number - 1].capacity + rows_beside(spec, number)
