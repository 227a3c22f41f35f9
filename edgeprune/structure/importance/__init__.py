"""Importance of units and of blocks, one file per idea, by name."""

from __future__ import annotations

from edgeprune.structure.importance import activations, blocks, control, curvature, visual, weights
from edgeprune.structure.importance.base import BlockImportance, Importance
from edgeprune_runtime.registry import Registry

IMPORTANCES: Registry[Importance] = Registry("importance", group="edgeprune.importances", kind=Importance)
BLOCK_IMPORTANCES: Registry[BlockImportance] = Registry(
    "block importance", group="edgeprune.block_importances", kind=BlockImportance
)

_UNITS = (*weights.ALL, *activations.ALL, *curvature.ALL, *visual.ALL, *control.ALL)
for _one in sorted(_UNITS, key=lambda one: one.name):
    IMPORTANCES.add(_one.name, _one)
for _block in sorted(blocks.ALL, key=lambda one: one.name):
    BLOCK_IMPORTANCES.add(_block.name, _block)

__all__ = ["BLOCK_IMPORTANCES", "IMPORTANCES", "BlockImportance", "Importance"]
