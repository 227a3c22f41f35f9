"""What is known of the rows of a prompt before the language model runs, as its rankings read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune_runtime.prompting.pack import VISUAL


@dataclass(frozen=True, eq=False)
class PromptRows:
    """Rows of a packed prompt [S].

    visual    [S] bool
    question  rows behind the last one that is visual or learned
    salience  [S] float32, the encoder's score of visual rows, 0 elsewhere; None where nobody asks for it
    places    [S, 2] int64, row and column of visual rows on their canvas, -1 elsewhere
    """

    visual: np.ndarray
    question: int
    salience: np.ndarray | None = None
    places: np.ndarray | None = None


def prompt_rows(ids: np.ndarray, salience: np.ndarray | None = None, places: np.ndarray | None = None) -> PromptRows:
    """From ids [S] of a packed prompt; salience [k] and places [k, 2] of its visual rows, in their order."""
    visual = ids == VISUAL
    text = np.flatnonzero(ids < 0)
    behind = len(ids) - (int(text[-1]) + 1 if len(text) else 0)
    return PromptRows(visual, behind, _spread(visual, salience, 0, np.float32), _spread(visual, places, -1, np.int64))


def evenly(visual: np.ndarray, count: int) -> np.ndarray:
    """Numbers of all rows [S] but the visual ones, of which `count` stay: each floor(V / count)-th of V, from the first on."""
    numbers = np.flatnonzero(visual)
    stay = numbers[: count * (len(numbers) // max(1, count)) : max(1, len(numbers) // max(1, count))][:count]
    return np.sort(np.concatenate([np.flatnonzero(~visual), stay]))


def _spread(visual: np.ndarray, values: np.ndarray | None, elsewhere: int, dtype: type) -> np.ndarray | None:
    if values is None:
        return None
    found = np.full((len(visual), *values.shape[1:]), elsewhere, dtype)
    found[visual] = values
    return found
