"""How much each token matters: [T, N], higher is kept first. What stands at padding may be anything finite."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.later import torch
from edgeprune.plan import MethodPlan
from edgeprune.tokens.readings import Reads, TowerOutputs, reads
from edgeprune.tokens.similar import unit

if TYPE_CHECKING:
    from torch import Tensor

_NEVER = -1e30  # far below every logit, and finite: a tile without candidates must not become NaN


def candidates(outputs: TowerOutputs) -> Tensor:
    """Which tokens have a slot: [T, N] bool."""
    return outputs.slot >= 0


def cls_attention(outputs: TowerOutputs, layer: int) -> Tensor:
    """Attention of the class token in `layer`, summed over heads (HiRED, arXiv 2408.10945: f_ij).

    One head after the other: a graph adds in the same order, so that it ranks as torch does to the last bit.
    """
    return reduce(torch.add, outputs["attention", layer].unbind(dim=1))


def cls_mean(outputs: TowerOutputs, layer: int) -> Tensor:
    """Attention of the class token in `layer`, mean over heads."""
    return cls_attention(outputs, layer) / outputs["attention", layer].shape[1]


def salience(outputs: TowerOutputs, plan: MethodPlan) -> Tensor:
    """How much attention each token gets in the feature layer: of the class token, mean over heads, or where the tower has none, of the
    tile's other tokens."""
    layer = plan.feature_layer
    return cls_mean(outputs, layer) if plan.class_token else outputs["received", layer]


def salience_reads(plan: MethodPlan) -> Reads:
    """What `salience` looks at."""
    return reads(**{"attention" if plan.class_token else "received": (plan.feature_layer,)})


def between(outputs: TowerOutputs, layer: int) -> Tensor:
    """Attention of patch i to patch j in `layer`, zero where either is padding: [T, N, N]."""
    real = candidates(outputs)
    return torch.where(real[:, :, None] & real[:, None, :], outputs["map", layer][:, -real.shape[1] :], 0.0)


def mean(values: Tensor, among: Tensor, dim: int) -> Tensor:
    """Mean over `dim` of the members of `among` (bool, broadcast to values), 0 without members; `dim` is kept."""
    total = torch.where(among, values, 0.0).sum(dim=dim, keepdim=True)
    return total / torch.clamp(among.sum(dim=dim, keepdim=True), min=1).to(values.dtype)


def variance(values: Tensor, among: Tensor) -> Tensor:
    """Population variance over the last axis of the members of `among`: [..., 1]."""
    return mean((torch.where(among, values, 0.0) - mean(values, among, -1)) ** 2, among, -1)


def softmax(logits: Tensor, among: Tensor, dim: int) -> Tensor:
    """Softmax over the members of `among` only; 0 elsewhere."""
    return torch.softmax(torch.where(among, logits, _NEVER), dim=dim) * among.to(logits.dtype)


def relevance(outputs: TowerOutputs) -> Tensor:
    """Weighted sum over question rows of cos(question, projected): [T, N]; 0 without a question.

    A sum of cosines with unit rows is one product with the sum of the unit rows.
    """
    return unit(outputs["projected"]) @ (outputs["question_weight"][:, None] * unit(outputs["question"])).sum(dim=0)


def noise(outputs: TowerOutputs, seed: int) -> Tensor:
    """Seeded uniform scores in [0, 1); the same for every picture, so a run can be repeated."""
    values = np.random.default_rng(seed).random(tuple(outputs.slot.shape), dtype=np.float32)
    return torch.from_numpy(values)
