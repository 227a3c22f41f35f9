"""What may be pruned of a model, from its description alone."""

from __future__ import annotations

from edgeprune.models.spec import ModelSpec, TowerSpec
from edgeprune.structure.sites import Specs


def specs_of(model: ModelSpec) -> Specs:
    """What may be pruned of a vision-language model."""
    return {"tower": (model.vision, model.feature_layer + 1), "language": (model.language, model.language.layers)}


def specs_of_classifier(tower: TowerSpec) -> Specs:
    """What may be pruned of a classifier: every block."""
    return {"tower": (tower, tower.layers)}
