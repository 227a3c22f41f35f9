"""What the cache holds of the last prompt, so that a prompt that begins alike starts behind it.

Rows are compared, not where they came from: equal numbers at equal positions are the same rows, whatever picture, budget, method or policy
gave them. So nobody has to be told that a picture, a question or a plan is another.

Only whole chunks count. A run of a prefill graph computes all its rows together: where a row stands in its chunk may decide in which order
it is summed up, and with int8 products its neighbours decide how it is rounded. A chunk of equal rows at equal positions, behind equal
chunks, has equal keys and values to the last bit; anything less is computed again. Rows that decode wrote are never taken for a prompt's.
"""

from __future__ import annotations

import numpy as np


class PromptPrefix:
    """The whole chunks of one prompt that lie in the cache; none at first. Its rows are kept by reference: nobody may change them."""

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self.forget()

    @property
    def bytes(self) -> int:
        """Memory of the rows and positions that are kept."""
        return self._embeds.nbytes + self._positions.nbytes

    def hold(self, embeds: np.ndarray, positions: np.ndarray) -> None:
        """The prompt embeds [S, row width] float32 at positions [axes, S] was computed: its whole chunks lie in the cache."""
        self._embeds, self._positions, self._rows = embeds, positions, self._whole(len(embeds))

    def forget(self) -> None:
        """Nothing in the cache counts any more."""
        self._embeds, self._positions, self._rows = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.int64), 0

    def overwrite(self, row: int) -> None:
        """From this row on the cache holds something else."""
        self._rows = min(self._rows, self._whole(row))

    def shared(self, embeds: np.ndarray, positions: np.ndarray) -> int:
        """Rows of a prompt, from its first on, that need not be computed again: whole chunks, and never its last row, which the head reads."""
        most = min(self._rows, self._whole(len(embeds) - 1))
        for start in range(0, most, self._chunk):
            rows = slice(start, start + self._chunk)
            same = _same_bits(self._embeds[rows], embeds[rows])
            if not same or not np.array_equal(self._positions[:, rows], positions[:, rows]):
                return start
        return most

    def _whole(self, rows: int) -> int:
        return max(rows, 0) // self._chunk * self._chunk


def _same_bits(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Equal rows of float32 to the last bit: 0.0 is not -0.0."""
    return np.array_equal(ours.view(np.int32), theirs.view(np.int32))
