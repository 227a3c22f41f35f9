"""The sequence that reaches the language model: which rows are text, which are visual, which are learned, and the position of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.spec import Positions, Separators

#: What `Packed.ids` holds where a row is no text.
VISUAL, LEARNED = -1, -2


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """A tokenised prompt [L]. `ids` holds `placeholder` once for each run of rows of its pictures, in their order.

    group    [L, 2] rows first .. behind - 1 of its picture that a token belongs to; -1 for one that always stays
    picture  [L] number of that picture, -1 for none
    """

    ids: np.ndarray
    placeholder: int
    group: np.ndarray
    picture: np.ndarray


@dataclass(frozen=True, eq=False)
class Packed:
    """A prompt in packed order. Lengths S; `ids` is VISUAL for visual rows and LEARNED for learned ones.

    positions [axes, S] are what the rotary embedding sees; `next_position` belongs to the first generated token.
    """

    ids: np.ndarray
    positions: np.ndarray
    next_position: int


def pack(
    tokens: PromptTokens,
    pictures: Sequence[tuple[PackedPicture, np.ndarray]],
    separators: Separators,
    positions: Positions,
) -> Packed:
    """Put the kept visual tokens of every picture, and what separates them, in the place of its placeholders.

    pictures    each with its kept tokens [k]: flat indices ascending by slot
    separators  texts and learned rows that belong to rows: "all" stay, "rows": those whose rows kept a token, "none"
    positions   "keep": those of the unpruned sequence, so text after a picture starts where it would have started; "renumber"
    """
    stays = [_Stays(picture, kept, separators) for picture, kept in pictures]
    runs = [(n, s) for n, (picture, _) in enumerate(pictures) for s in picture.segments if not s.text]
    values: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    text = 0  # first token that was not taken over yet
    for place, (number, run) in zip(np.flatnonzero(tokens.ids == tokens.placeholder), runs, strict=True):
        _take_text(tokens, text, int(place), stays, values, kept)
        rows = slice(run.start, run.stop)
        values.append(np.where(pictures[number][0].unit[rows] >= 0, VISUAL, LEARNED))
        kept.append(stays[number].rows[rows])
        text = int(place) + 1
    _take_text(tokens, text, len(tokens.ids), stays, values, kept)
    ids, stay = np.concatenate(values), np.concatenate(kept)
    packed = ids[stay]
    if positions == "renumber":
        return Packed(packed, np.arange(len(packed))[None], len(packed))
    return Packed(packed, np.flatnonzero(stay)[None], len(ids))


class _Stays:
    """Which rows of a picture stay [R], and which texts do."""

    def __init__(self, picture: PackedPicture, kept: np.ndarray, separators: Separators) -> None:
        self.rows = np.zeros(picture.length, bool)
        self.rows[picture.slot.reshape(-1)[kept]] = True
        self._separators = separators
        self._before = np.concatenate([[0], np.cumsum(self.rows)])
        learned = picture.unit < 0
        self.rows[learned] = self.of(picture.group[learned])

    def of(self, group: np.ndarray) -> np.ndarray:
        """[n, 2] rows that something belongs to -> [n] whether it stays."""
        if self._separators == "rows":
            some: np.ndarray = self._before[group[:, 1]] > self._before[group[:, 0]]
            return some
        return np.full(len(group), self._separators == "all")


def _take_text(
    tokens: PromptTokens,
    start: int,
    stop: int,
    stays: Sequence[_Stays],
    values: list[np.ndarray],
    kept: list[np.ndarray],
) -> None:
    """Append the text tokens start .. stop - 1."""
    stay = np.ones(stop - start, bool)
    for number, picture in enumerate(stays):
        own = tokens.picture[start:stop] == number
        stay[own] = picture.of(tokens.group[start:stop][own])
    values.append(tokens.ids[start:stop])
    kept.append(stay)
