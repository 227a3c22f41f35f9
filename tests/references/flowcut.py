"""Reference of FlowCut inside the tower (repository TungChintao/FlowCut): one tile, block by block.

The tower itself stands outside: `read(block, there)` gives the readings of one block for the tokens still there, so
that a test can run a real tower on them or cut them out of fixed arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .picture import Vector, dot, mean, softmax

PADDING_SCORE = -1.0


@dataclass(frozen=True)
class Block:
    """Readings of one block for n tokens. The values have one vector per head."""

    attention: Sequence[Vector]  # [H, n] the class token's attention
    class_value: Sequence[Vector]  # [H, d]
    values: Sequence[Sequence[Vector]]  # [H, n, d]


@dataclass(frozen=True)
class Cut:
    """What is left after one cut."""

    block: int
    tokens: list[int]  # ascending, numbers of the uncut tile
    state: list[float]  # their c


Read = Callable[[int, list[int]], Block]


def cut_blocks(feature_layer: int) -> list[int]:
    """Every second block from the last one before the feature layer back, ascending."""
    return sorted(range(feature_layer - 1, -1, -2))


def cut_count(there: int, target: int, blocks_left: int, ratio: float) -> int:
    """Tokens that a cut leaves; `blocks_left` is the number of blocks between this one and the feature layer."""
    if there <= target or blocks_left == 0:
        return min(there, target)
    return there - round((there - target) / math.sqrt(blocks_left) * (1 - ratio * ratio))


def schedule(tokens: int, target: int, feature_layer: int, ratios: Sequence[float]) -> list[int]:
    """Counts after all cuts for given entropy ratios, one per cut."""
    counts = []
    for block, ratio in zip(cut_blocks(feature_layer), ratios, strict=True):
        tokens = cut_count(tokens, target, feature_layer - 1 - block, ratio)
        counts.append(tokens)
    return counts


def tile_target(keep: int, tiles: int) -> int:
    """Every tile of several is cut to half of the picture's budget."""
    return keep if tiles == 1 else -(-keep // 2)


def normalised(values: Sequence[float]) -> list[float]:
    total = math.fsum(values)
    return [v / total for v in values]


def entropy_ratio(weights: Sequence[float]) -> float:
    """Entropy of a distribution over its highest possible value."""
    if len(weights) == 1:
        return 1.0
    return -math.fsum(w * math.log(w) for w in weights if w > 0) / math.log(len(weights))


def attention_part(block: Block) -> list[float]:
    """a: head mean of class attention, normalised over the tokens."""
    return normalised([mean(column) for column in zip(*block.attention, strict=True)])


def value_part(block: Block) -> list[float]:
    """b: head mean of the softmax over tokens of class value . patch value, unscaled; normalised over the tokens."""
    per_head = [
        softmax([dot(owner, value) for value in values])
        for owner, values in zip(block.class_value, block.values, strict=True)
    ]
    return normalised([mean(column) for column in zip(*per_head, strict=True)])


def value_size(block: Block) -> list[float]:
    """L1 norm of the head mean of every token's value."""
    tokens = range(len(block.values[0]))
    width = range(len(block.values[0][0]))
    return [math.fsum(abs(mean(head[j][c] for head in block.values)) for c in width) for j in tokens]


def block_score(block: Block) -> list[float]:
    parts = zip(attention_part(block), value_part(block), value_size(block), strict=True)
    return [(a + b) * size for a, b, size in parts]


def best_in_order(state: Sequence[float], count: int) -> list[int]:
    """Numbers of the `count` highest values (ties: lower number), ascending."""
    return sorted(sorted(range(len(state)), key=lambda j: (-state[j], j))[:count])


def run(
    read: Read,
    tokens: int,
    feature_layer: int,
    count_after: Callable[[int, int, Block], int],
    padding: frozenset[int] = frozenset(),
) -> list[Cut]:
    """Score every block, cut at every second one; `count_after(block, tokens there, readings)` decides how far.

    Padding is no term of any sum or softmax over tokens, has score -1 and so leaves before every candidate.
    """
    there = list(range(tokens))
    state: dict[int, float] = {}
    cuts = []
    for block in range(feature_layer):
        readings = read(block, there)
        real = [place for place, j in enumerate(there) if j not in padding]
        score = dict.fromkeys(there, PADDING_SCORE)
        if real:
            readings = Block(
                [[head[p] for p in real] for head in readings.attention],
                readings.class_value,
                [[head[p] for p in real] for head in readings.values],
            )
            for p, s in zip(real, block_score(readings), strict=True):
                score[there[p]] = s
        state = score if block == 0 else {j: 0.5 * state[j] + 0.5 * score[j] for j in there}
        if block in cut_blocks(feature_layer):
            stay = best_in_order([state[j] for j in there], count_after(block, len(there), readings))
            there = [there[p] for p in stay]
            cuts.append(Cut(block, there, [state[j] for j in there]))
    return cuts


def published(read: Read, tokens: int, target: int, feature_layer: int) -> list[Cut]:
    """The algorithm as released: the entropy ratio of the class attention decides how far each cut goes."""

    def count_after(block: int, there: int, readings: Block) -> int:
        ratio = entropy_ratio(attention_part(readings))
        return cut_count(there, target, feature_layer - 1 - block, ratio)

    return run(read, tokens, feature_layer, count_after)


def fixed(
    read: Read, tokens: int, counts: Sequence[int], feature_layer: int, padding: frozenset[int] = frozenset()
) -> list[Cut]:
    """The same with counts known beforehand, one per cut."""
    plan = dict(zip(cut_blocks(feature_layer), counts, strict=True))
    return run(read, tokens, feature_layer, lambda block, there, readings: plan[block], padding)


def best_of_picture(last: Sequence[Cut], tokens: int, keep: int) -> list[int]:
    """Flat indices of the `keep` highest c over the last cuts of all tiles (ties: lower flat index), ascending.

    Padding that is still there is never taken: the result is shorter where too few candidates got through the cuts.
    """
    state = {
        t * tokens + j: c
        for t, cut in enumerate(last)
        for j, c in zip(cut.tokens, cut.state, strict=True)
        if c != PADDING_SCORE
    }
    return sorted(sorted(state, key=lambda i: (-state[i], i))[:keep])


def default_counts(tokens: int, target: int, feature_layer: int, ratio: float | Fraction = 0.75) -> list[int]:
    """Counts for one entropy ratio at all cuts."""
    return schedule(tokens, target, feature_layer, [float(ratio)] * len(cut_blocks(feature_layer)))
