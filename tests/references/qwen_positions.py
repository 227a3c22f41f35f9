"""Positions of a prompt of Qwen-VL, row by row: three axes, any number of pictures, whole or with tokens left out.

A text row stands at one position on all three axes, one behind its neighbour. A picture at position p has its token of row r
and column c at (p, p + r, p + c), wherever it lies in the sequence; the row after it stands at p + max(rows, columns). Tokens
that are left out take nothing away from anybody: the others stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, int]  # rows and columns of merged tokens


def prompt_positions(ids: Sequence[int], image_id: int, grids: Sequence[Grid]) -> tuple[NDArray[np.int64], int]:
    """Positions [3, S] of the rows of an expanded prompt, and that of the first row of the answer.

    `ids` holds the placeholder once per visual token; `grids` are those of the pictures in their order.
    """
    time, height, width = [], [], []
    at, index, left = 0, 0, list(grids)
    while index < len(ids):
        if ids[index] != image_id:
            for axis in (time, height, width):
                axis.append(at)
            at += 1
            index += 1
            continue
        rows, columns = left.pop(0)
        for row in range(rows):
            for column in range(columns):
                if ids[index] != image_id:
                    raise ValueError(f"row {index} is text; expected {rows} x {columns} visual tokens in one run")
                time.append(at)
                height.append(at + row)
                width.append(at + column)
                index += 1
        at += max(rows, columns)
    if left:
        raise ValueError(f"{len(left)} of {len(grids)} pictures have no placeholder")
    return np.array([time, height, width], dtype=np.int64), at


def kept_rows(ids: Sequence[int], image_id: int, kept: Sequence[Sequence[int]]) -> list[int]:
    """Which rows of the expanded prompt stay: all text, and of each run of placeholders the tokens `kept` names."""
    rows: list[int] = []
    index, left = 0, list(kept)
    while index < len(ids):
        if ids[index] != image_id:
            rows.append(index)
            index += 1
            continue
        start = index
        while index < len(ids) and ids[index] == image_id:
            index += 1
        rows += [start + token for token in sorted(left.pop(0))]
    return rows


def packed_positions(
    texts: Sequence[int], grids: Sequence[Grid], kept: Sequence[Sequence[int]]
) -> tuple[NDArray[np.int64], int]:
    """Positions [3, S'] of a packed prompt and of the answer's first row, without the unpruned sequence.

    `texts` are the numbers of text rows before, between and after the pictures; `kept` the indices of each picture's kept
    tokens, counted row by row.
    """
    columns_of: list[tuple[int, int, int]] = []
    at = 0
    for picture, length in enumerate(texts):
        for _ in range(length):
            columns_of.append((at, at, at))
            at += 1
        if picture == len(grids):
            break
        rows, columns = grids[picture]
        for token in sorted(kept[picture]):
            if token not in range(rows * columns):
                raise ValueError(f"token {token} of a picture of {rows} x {columns}")
            columns_of.append((at, at + token // columns, at + token % columns))
        at += max(rows, columns)
    return np.array(columns_of, dtype=np.int64).reshape(-1, 3).T, at
