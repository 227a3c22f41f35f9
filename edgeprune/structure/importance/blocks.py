"""Importance of whole blocks."""

from __future__ import annotations

from edgeprune.structure.importance.base import BlockImportance
from edgeprune.structure.statistics import BlockStatistics


def similarity(stats: BlockStatistics) -> float:
    """1 - mean over tokens of cos(input, output)."""
    return 1 - stats.cosine / stats.tokens


def visual(stats: BlockStatistics) -> float:
    """Attention mass of the last prompt position on visual tokens, mean over heads and samples."""
    return sum(stats.visual) / len(stats.visual)


ALL = (
    BlockImportance(
        "similarity",
        "how much a block turns the residual stream",
        "arXiv 2403.03853",
        "paper",
        similarity,
        frozenset({"similarity"}),
    ),
    BlockImportance("removal", "how far the answer moves without the block", "KL of the outputs", "paper", None),
    BlockImportance(
        "visual",
        "how much a layer looks at the picture",
        "YOPO, arXiv 2410.06169",
        "reconstruction",
        visual,
        frozenset({"visual"}),
        parts=("language",),
    ),
)
