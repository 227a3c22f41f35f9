"""Make scores of different layers compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from edgeprune.later import torch
from edgeprune.structure.importance.weights import information
from edgeprune_runtime.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Normalise: TypeAlias = "Callable[[Tensor], Tensor]"


def none(scores: Tensor) -> Tensor:
    """As they are: [units] -> [units]."""
    return scores


def layer(scores: Tensor) -> Tensor:
    """Over their mean; all 1 where it is 0: [units] -> [units]."""
    mean = scores.mean()
    return scores / mean if mean > 0 else torch.ones_like(scores)


def module(scores: Tensor) -> Tensor:
    """u^2 over the sum of v^2 of all units v with v >= u; all 1 where every score is 0 (DIMAP's rule on whole units): [units] -> [units]."""
    return information(scores) if bool(scores.any()) else torch.ones_like(scores)


NORMALISATIONS: Registry[Normalise] = Registry("normalisation", group="edgeprune.normalisations")
for _name, _rule in {"none": none, "layer": layer, "module": module}.items():
    NORMALISATIONS.add(_name, _rule)
