"""The sequence that reaches the language model: which rows are text, which are visual, which are learned, and the position of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.pictures.spec import SequenceSpec
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


class KeptPicture(NamedTuple):
    """A picture of a prompt and what stays of it.

    kept        [k] flat indices t * N + n, ascending by slot
    separators  texts and learned rows that belong to rows: "all" stay, "rows": those whose rows kept a token, "none"
    """

    picture: PackedPicture
    kept: np.ndarray
    separators: Separators


def pack(
    tokens: PromptTokens,
    pictures: Sequence[KeptPicture],
    positions: Positions,
    sequence: SequenceSpec,
) -> Packed:
    """Put the kept visual tokens of every picture, and what separates them, in the place of its placeholders.

    positions   "keep": those of the unpruned sequence, so text after a picture starts where it would have started; "renumber": one after
                the other, on all axes
    sequence    how positions of a picture's rows are counted
    """
    stays = [_Stays(*one) for one in pictures]
    runs = [(n, s) for n, one in enumerate(pictures) for s in one.picture.segments if not s.text]
    values: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    counter = _Counter(sequence.axes)
    text = 0  # first token that was not taken over yet
    for place, (number, run) in zip(np.flatnonzero(tokens.ids == tokens.placeholder), runs, strict=True):
        _take_text(tokens, text, int(place), stays, values, kept)
        counter.text(int(place) - text)
        rows = slice(run.start, run.stop)
        values.append(np.where(pictures[number].picture.unit[rows] >= 0, VISUAL, LEARNED))
        kept.append(stays[number].rows[rows])
        counter.run(pictures[number].picture, rows)
        text = int(place) + 1
    _take_text(tokens, text, len(tokens.ids), stays, values, kept)
    counter.text(len(tokens.ids) - text)
    ids, stay = np.concatenate(values), np.concatenate(kept)
    packed = ids[stay]
    if positions == "renumber":
        return Packed(packed, np.broadcast_to(np.arange(len(packed)), (sequence.axes, len(packed))), len(packed))
    return Packed(packed, np.concatenate(counter.found, axis=1)[:, stay], counter.following)


class _Counter:
    """Positions [axes, n] of the unpruned sequence, piece by piece; `following` is that of the next text."""

    def __init__(self, axes: int) -> None:
        self._axes, self.following = axes, 0
        self.found: list[np.ndarray] = []

    def text(self, count: int) -> None:
        """Token after token, on all axes."""
        self.found.append(np.broadcast_to(self.following + np.arange(count), (self._axes, count)))
        self.following += count

    def run(self, picture: PackedPicture, rows: slice) -> None:
        """Rows of a picture. On three axes: one time, their row, and their column on the canvas (Qwen2-VL, arXiv 2409.12191, 2.1)."""
        if self._axes == 1:
            self.text(rows.stop - rows.start)
            return
        places = picture.places.reshape(-1, 2)[picture.unit[rows]].T  # [2, n]
        self.found.append(self.following + np.concatenate([np.zeros_like(places[:1]), places]))
        self.following += int(places.max()) + 1


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
