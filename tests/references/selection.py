"""Plain references of token-selection algorithms over a tiled picture.

Written from the algorithm facts only, without the package's own code. Every real-valued decision is made in exact
rational arithmetic: the inputs (float32 or float64) are converted to fractions without loss, so sums have no order and
a tie is a true tie. Nothing here is meant to be fast.

Terms: T tiles (tile 0 is the thumbnail, tiles 1.. are crops), N tokens per tile, flat index = t * N + n,
`slot[t, n]` = position of the token in the packed sequence or -1 (padding, absent tile: never kept).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


# ---------------------------------------------------------------------------------------------------------------------
# shared pieces


def candidates_by_slot(slot: Array) -> list[int]:
    """Flat indices of all candidates (slot >= 0), ascending by slot."""
    tiles, tokens = slot.shape
    found = [t * tokens + n for t in range(tiles) for n in range(tokens) if slot[t, n] >= 0]
    slots = [int(slot.flat[i]) for i in found]
    if len(set(slots)) != len(slots):
        raise ValueError("two tokens share one slot")
    return sorted(found, key=lambda i: int(slot.flat[i]))


def _ascending_by_slot(chosen: list[int], slot: Array) -> list[int]:
    return sorted(chosen, key=lambda i: int(slot.flat[i]))


def _decimal(alpha: float | Fraction) -> Fraction:
    """The number as it is written: 0.7 means 7/10, not the nearest binary number (which is slightly smaller)."""
    value = alpha if isinstance(alpha, Fraction) else Fraction(str(float(alpha)))
    if not 0 <= value <= 1:
        raise ValueError("alpha must lie in [0, 1]")
    return value


def ranked_candidates(feature: Array, slot: Array) -> list[list[int]]:
    """Per tile: flat indices of its candidates by descending score (sum over heads), ties by lower token number."""
    tiles, heads, tokens = feature.shape
    ranked: list[list[int]] = []
    for t in range(tiles):
        score = {
            n: sum((Fraction(float(feature[t, h, n])) for h in range(heads)), Fraction(0))
            for n in range(tokens)
            if slot[t, n] >= 0
        }
        ranked.append([t * tokens + n for n in sorted(score, key=lambda n: (-score[n], n))])
    return ranked


def content_mass(early: Array, region: Array) -> list[Fraction]:
    """s_t for every tile; entry 0 (the thumbnail) is 0 and takes no part."""
    heads, tokens = early.shape
    mass = [Fraction(0)]
    for t in range(1, region.shape[0]):
        total = Fraction(0)
        for n in range(tokens):
            if region[t, n] != 0:
                for h in range(heads):
                    total += Fraction(float(early[h, n])) * Fraction(float(region[t, n]))
        mass.append(total)
    return mass


def tile_weights(mass: list[Fraction], alpha: float | Fraction) -> list[Fraction]:
    """w_0 = alpha; w_t = (1 - alpha) * s_t / sum of s, all 0 when that sum is 0."""
    share = _decimal(alpha)
    total = sum(mass[1:], Fraction(0))
    weights = [share]
    for s in mass[1:]:
        weights.append((1 - share) * s / total if total != 0 else Fraction(0))
    return weights


def sainte_lague(weights: list[Fraction], capacity: list[int], keep: int) -> list[int]:
    """Seats per tile. One seat at a time, to the largest weight / (seats + 1/2) among tiles with room.

    Ties go to the lower flat index of the candidate that would be taken next. A flat index of tile t is always below
    every flat index of tile t + 1, so that is the lower tile number.
    """
    seats = [0] * len(weights)
    for _ in range(keep):
        best: int | None = None
        best_quotient = Fraction(0)
        for t, weight in enumerate(weights):
            if seats[t] >= capacity[t]:
                continue
            quotient = weight / (seats[t] + Fraction(1, 2))
            if best is None or quotient > best_quotient:
                best, best_quotient = t, quotient
        if best is None:
            break
        seats[best] += 1
    return seats


# ---------------------------------------------------------------------------------------------------------------------
# the algorithms


def hired(early: Array, feature: Array, slot: Array, region: Array, keep: int, alpha: float | Fraction) -> list[int]:
    """Paper mode with exact apportionment: min(keep, candidates) flat indices, ascending by slot."""
    ranked = ranked_candidates(feature, slot)
    weights = tile_weights(content_mass(early, region), alpha)
    seats = sainte_lague(weights, [len(tile) for tile in ranked], keep)
    chosen = [i for tile, count in zip(ranked, seats, strict=True) for i in tile[:count]]
    return _ascending_by_slot(chosen, slot)


def published_seats(mass: list[Fraction], capacity: list[int], keep: int, alpha: float | Fraction) -> list[int]:
    """Floor rule of the paper; each floor is capped at the tile's candidates, what is lost is not given out again."""
    keep = max(keep, 0)
    full = min(math.floor(_decimal(alpha) * keep), capacity[0])
    rest = keep - full
    total = sum(mass[1:], Fraction(0))
    seats = [full]
    for s, room in zip(mass[1:], capacity[1:], strict=True):
        seats.append(min(math.floor(rest * s / total), room) if total != 0 else 0)
    return seats


def hired_published(
    early: Array, feature: Array, slot: Array, region: Array, keep: int, alpha: float | Fraction
) -> list[int]:
    """The paper's floor rule, for comparison; may return fewer than `keep` flat indices. Ascending by slot."""
    ranked = ranked_candidates(feature, slot)
    seats = published_seats(content_mass(early, region), [len(tile) for tile in ranked], keep, alpha)
    chosen = [i for tile, count in zip(ranked, seats, strict=True) for i in tile[:count]]
    return _ascending_by_slot(chosen, slot)


def uniform(slot: Array, keep: int) -> list[int]:
    """Candidates number floor((i + 1/2) * M / keep) in slot order; all of them when M <= keep."""
    found = candidates_by_slot(slot)
    if len(found) <= keep:
        return found
    return [found[(2 * i + 1) * len(found) // (2 * keep)] for i in range(keep)]


def random_by_scores(noise: Array, slot: Array, keep: int) -> list[int]:
    """The `keep` candidates with the highest noise, ties by lower flat index; ascending by slot."""
    found = candidates_by_slot(slot)
    order = sorted(found, key=lambda i: (-float(noise.flat[i]), i))
    return _ascending_by_slot(order[: max(keep, 0)], slot)


# ---------------------------------------------------------------------------------------------------------------------
# downsampling


def split_keep(thumb: int, mosaic: int, keep: int) -> tuple[int, int]:
    """(cells of the thumbnail, cells of the mosaic) for keep < thumb + mosaic."""
    if keep <= 0:
        return 0, 0
    keep_thumb = (2 * keep * thumb + thumb + mosaic) // (2 * (thumb + mosaic))  # floor(keep * N / (N + M) + 1/2)
    keep_thumb = min(max(keep_thumb, 1), thumb, keep)
    keep_mosaic = keep - keep_thumb
    if keep_mosaic > mosaic:
        keep_mosaic = mosaic
        keep_thumb = keep - mosaic
    return keep_thumb, keep_mosaic


def band_count(height: int, width: int, cells: int) -> int:
    """floor(sqrt(cells * height / width) + 1/2), clamped to [ceil(cells / width), height] and to at least 1."""
    rounded = (math.isqrt(4 * cells * height // width) + 1) // 2  # exact integer form of the rounding
    lowest = -(-cells // width)
    return max(min(max(rounded, lowest), height), 1)


def pooling_cells(height: int, width: int, cells: int) -> list[list[tuple[int, int]]]:
    """The (y, x) tokens of every cell, in cell order; within a cell in raster order."""
    if cells <= 0:
        return []
    bands = band_count(height, width, cells)
    members: list[list[tuple[int, int]]] = [[] for _ in range(cells)]
    for y in range(height):
        r = y * bands // height
        start = r * cells // bands
        end = (r + 1) * cells // bands
        for x in range(width):
            members[start + x * (end - start) // width].append((y, x))
    return members


def downsample(slot: Array, mosaic: tuple[int, int], tokens_per_side: int, keep: int) -> list[list[int]]:
    """Groups of flat indices to average, in output order: thumbnail cells first, then mosaic cells."""
    p = tokens_per_side
    height, width = mosaic
    thumb_count = p * p
    found = candidates_by_slot(slot)
    flat_of_slot = {int(slot.flat[i]): i for i in found}

    thumb = {(y, x): y * p + x for y in range(p) for x in range(p)}  # slot of every thumbnail token
    grid = {(y, x): thumb_count + y * (width + 1) + x for y in range(height) for x in range(width)}
    if set(flat_of_slot) != set(thumb.values()) | set(grid.values()):
        raise ValueError("slot does not describe a whole thumbnail followed by a mosaic with one newline per row")
    if any(flat_of_slot[s] != s for s in thumb.values()):
        raise ValueError("the thumbnail tokens must come first, in raster order")

    if keep >= len(found):
        return [[i] for i in found]
    flat = [{yx: flat_of_slot[place] for yx, place in part.items()} for part in (thumb, grid)]
    keep_thumb, keep_mosaic = split_keep(thumb_count, height * width, keep)
    return _members(flat[0], p, p, keep_thumb) + _members(flat[1], height, width, keep_mosaic)


def downsample_tiles(
    slot: Array, grid: tuple[int, int], tokens_per_side: int, keep: int, whole: bool
) -> list[list[int]]:
    """The same where tiles stand one after another, wherever the thumbnail (tile 0, if `whole`) stands among them.

    grid: rows and columns of the other tiles, in raster order. Groups are ordered by their first slot.
    """
    p = tokens_per_side
    found = candidates_by_slot(slot)
    height, width = grid[0] * p, grid[1] * p
    first = int(whole)
    if sorted(found) != list(range((first + grid[0] * grid[1]) * p * p)):
        raise ValueError("slot does not describe whole tiles")
    if keep >= len(found):
        return [[i] for i in found]
    thumb = {(y, x): y * p + x for y in range(p) for x in range(p)}
    places = [(y, x) for y in range(height) for x in range(width)]
    flat = {(y, x): ((first + y // p * grid[1] + x // p) * p + y % p) * p + x % p for y, x in places}
    keep_thumb, keep_grid = split_keep(p * p, height * width, keep) if whole else (0, keep)
    groups = _members(thumb, p, p, keep_thumb) + _members(flat, height, width, keep_grid)
    return sorted(groups, key=lambda group: min(int(slot.flat[i]) for i in group))


def _members(flat: dict[tuple[int, int], int], height: int, width: int, cells: int) -> list[list[int]]:
    return [[flat[yx] for yx in cell] for cell in pooling_cells(height, width, cells)]
