"""Importance of units and of blocks, one file per idea, by name."""

from __future__ import annotations

from edgeprune.registry import Registry
from edgeprune.structure.importance import activations, blocks, control, curvature, visual, weights
from edgeprune.structure.importance.base import BlockImportance, Importance

IMPORTANCES: Registry[Importance] = Registry("importance", group="edgeprune.importances")
BLOCK_IMPORTANCES: Registry[BlockImportance] = Registry("block importance", group="edgeprune.block_importances")

for _one in (*weights.ALL, *activations.ALL, *curvature.ALL, *visual.ALL, *control.ALL):
    IMPORTANCES.add(_one.name, _one)
for _block in blocks.ALL:
    BLOCK_IMPORTANCES.add(_block.name, _block)

__all__ = ["BLOCK_IMPORTANCES", "IMPORTANCES", "BlockImportance", "Importance"]
