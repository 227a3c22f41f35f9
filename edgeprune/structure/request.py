"""What is asked of one part of a model; the defaults that the command line and recipes share."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.structure.targets import PruneTarget


@dataclass(frozen=True)
class StructureRequest:
    """How small a part is to become, and what decides.

    blocks  how many whole blocks leave before anything else
    """

    target: PruneTarget
    importance: str = "taylor"
    allocation: str = "global"
    normalise: str = "none"
    align: int = 64
    blocks: int = 0
    block_importance: str = "similarity"
    seed: int = 0
