"""The rows and texts of a picture in its prompt, and what of a prompt stays, by plain loops over single tokens.

A token of a picture is (tile, n). Nothing here counts rows: a text or learned row says which tokens it stands beside, and a prompt is a
list of characters each of which says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Token = tuple[int, int]
Group = frozenset[Token]

VISUAL, LEARNED = -1, -2


@dataclass(frozen=True)
class Item:
    """A visual token, a learned row or a text, in the order of the prompt. beside: tokens that it separates; None: it always stays."""

    token: Token | None = None
    text: str = ""
    beside: Group | None = None

    @property
    def is_row(self) -> bool:
        return not self.text


def unpadded(height: int, width: int, rows: int, cols: int) -> tuple[int, int]:
    """Rows cut at either end and columns cut at either end of a mosaic of rows x cols tokens that shows height x width pixels."""
    if width / height > cols / rows:
        return (rows - int(round(height * (cols / width), 7))) // 2, 0
    return 0, (cols - int(round(width * (rows / height), 7))) // 2


def picture_items(place: Any, side: int, extra: int, sequence: Any) -> list[Item]:
    """place: rows, cols, size and overview of a picture; sequence: the texts and the order of its family."""
    units = extra + side * side

    def whole_tile(tile: int) -> list[Item]:
        return [Item((tile, n)) for n in range(units)]

    def beside(tile: int) -> Group:
        return frozenset((tile, n) for n in range(units))

    before, after = ([Item(text=text)] if text else [] for text in (sequence.before, sequence.after))
    if not place.overview and place.rows * place.cols == 1:
        return [*before, *_text(sequence.alone, beside(0)), *whole_tile(0), *after]
    first = 1 if place.overview else 0
    overview = [*_text(sequence.whole, beside(0)), *whole_tile(0)] if place.overview else []
    canvas: list[Item] = []
    if sequence.order == "mosaic":
        canvas = _mosaic(place, side, first, sequence)
    else:
        for row in range(place.rows):
            in_row: set[Token] = set()
            for col in range(place.cols):
                tile = first + row * place.cols + col
                named = sequence.tile.replace("{row}", str(row + 1)).replace("{col}", str(col + 1))
                canvas += [*_text(named, beside(tile)), *whole_tile(tile)]
                in_row |= beside(tile)
            canvas += _text(sequence.row, frozenset(in_row))
    middle = [*overview, *canvas] if sequence.overview == "first" else [*canvas, *overview]
    return [*before, *middle, *after]


def _mosaic(place: Any, side: int, first: int, sequence: Any) -> list[Item]:
    rows, cols = place.rows * side, place.cols * side
    top, left = unpadded(*place.size, rows, cols) if sequence.unpad and place.overview else (0, 0)
    items: list[Item] = []
    for row in range(top, rows - top):
        line = []
        for col in range(left, cols - left):
            tile = first + row // side * place.cols + col // side
            line.append((tile, row % side * side + col % side))
        items += [Item(token) for token in line]
        if sequence.row_end:
            items.append(Item(beside=frozenset(line)))
    return items


def _text(text: str, beside: Group) -> list[Item]:
    return [Item(text=text, beside=beside)] if text else []


def stays(beside: Group | None, kept: set[Token], separators: str) -> bool:
    """Whether a text or learned row stays."""
    if beside is None or separators == "all":
        return True
    return separators == "rows" and any(token in kept for token in beside)


def packed_prompt(
    around: Sequence[str],
    pictures: Sequence[tuple[list[Item], set[Token]]],
    placeholder: str,
    separators: str,
    tokenise: Callable[[str], tuple[list[int], list[tuple[int, int]]]],
) -> tuple[list[int], list[int], int]:
    """(ids, positions of the unpruned sequence, length of the unpruned sequence); VISUAL and LEARNED where a row is no text.

    around    the prompt's text before, between and behind its pictures
    pictures  the items of each, and the tokens of it that were kept
    tokenise  text -> ids and the characters (start, behind) of each; a placeholder is one token
    """
    text, marks, runs = _written(around, pictures, placeholder)
    ids: list[int] = []
    where: list[int] = []
    at = 0
    for token, (start, behind) in zip(*tokenise(text), strict=True):
        if start in runs and text[start:behind] == placeholder:
            items, kept = runs[start]
            for item in items:
                if item.token is not None and item.token in kept:
                    ids.append(VISUAL)
                    where.append(at)
                if item.token is None and stays(item.beside, kept, separators):
                    ids.append(LEARNED)
                    where.append(at)
                at += 1
        else:
            if (
                any(
                    marks[char] is None or stays(marks[char][0], marks[char][1], separators)
                    for char in range(start, behind)
                )
                or start == behind
            ):
                ids.append(token)
                where.append(at)
            at += 1
    return ids, where, at


def _written(around: Sequence[str], pictures: Sequence[tuple[list[Item], set[Token]]], placeholder: str) -> Any:
    """The whole text; for every character None or (group, kept) of what it belongs to; for every placeholder's start its run of rows."""
    text, runs = around[0], {}
    marks: list[Any] = [None] * len(around[0])
    for (items, kept), after in zip(pictures, around[1:], strict=True):
        in_run = False
        for item in items:
            if item.is_row:
                if not in_run:
                    start = len(text)
                    runs[start] = ([], kept)
                    text += placeholder
                    marks += [None] * len(placeholder)
                runs[start][0].append(item)
            else:
                text += item.text
                marks += [None if item.beside is None else (item.beside, kept)] * len(item.text)
            in_run = item.is_row
        text += after
        marks += [None] * len(after)
    return text, marks, runs
