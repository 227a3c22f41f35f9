"""References of the scores that read attention, activated channels or whole blocks, from docs/structure.md only."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from .structure_importance import Array


def visual_mass(row: Sequence[float], visual: Collection[int]) -> tuple[float, float]:
    """(attention on visual tokens, attention on all others, the query's own position among them)."""
    return (
        math.fsum(a for i, a in enumerate(row) if i in visual),
        math.fsum(a for i, a in enumerate(row) if i not in visual),
    )


def yopo_heads(last_row: Sequence[Array], visual: Sequence[Collection[int]], groups: int) -> list[float]:
    """`last_row[s]` `[query heads, positions]`: attention of the last prompt position; `visual[s]`: visual positions."""
    queries = last_row[0].shape[0] // groups
    scores = []
    for g in range(groups):
        ratios = []
        for rows, inside in zip(last_row, visual, strict=True):
            for h in range(g * queries, (g + 1) * queries):
                seen, others = visual_mass(rows[h].tolist(), inside)
                ratios.append(seen / others)
        scores.append(math.fsum(ratios) / len(ratios))
    return scores


def core_set(activated: Sequence[float]) -> set[int]:
    """The ceil(p / 5) largest of p positive values; of equal ones the lower index goes in first."""
    positive = [c for c, value in enumerate(activated) if value > 0]
    room = len(positive) // 5 + (len(positive) % 5 > 0)
    return set(sorted(positive, key=lambda c: (-activated[c], c))[:room])


def core_channels(activated: Array) -> list[float]:
    """`activated` `[tokens, channels]`: act(gate), or act(fc1) where there is no gate."""
    sets = [core_set(row.tolist()) for row in activated]
    return [sum(c in members for members in sets) / len(sets) for c in range(activated.shape[1])]


# ------------------------------------------------------------------------------------------------------ whole blocks


def similarity(inputs: Array, outputs: Array) -> float:
    """1 - mean cosine of the residual stream before and after the block, over all tokens `[tokens, D]`."""
    cosines = []
    for before, after in zip(inputs.tolist(), outputs.tolist(), strict=True):
        dot = math.fsum(a * b for a, b in zip(before, after, strict=True))
        cosines.append(dot / (math.hypot(*before) * math.hypot(*after)))
    return 1 - math.fsum(cosines) / len(cosines)


def removal(whole: Sequence[Array], without: Sequence[Array]) -> float:
    """Mean over samples of KL(p || q) in nats; p of the model, q without the block: probabilities `[classes]`."""
    divergences = []
    for p, q in zip(whole, without, strict=True):
        terms = [a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True) if a > 0]
        divergences.append(math.fsum(terms))
    return math.fsum(divergences) / len(divergences)


def visual(last_row: Sequence[Array], visual_positions: Sequence[Collection[int]]) -> float:
    """Mean over samples and query heads of the last prompt position's attention mass on visual tokens."""
    masses = []
    for rows, inside in zip(last_row, visual_positions, strict=True):
        masses += [visual_mass(row, inside)[0] for row in rows.tolist()]
    return math.fsum(masses) / len(masses)
