"""Plain drops: the K tokens that stay are those with the highest attention, or, as controls, any K."""

from __future__ import annotations

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens import select
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune.tokens.inside.tower.rows import BlockRows, Rows, TowerCut, best, only, received


def _by_class_attention(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    return only(rows, best(rows, block.class_attention().mean(dim=0)[cut.first :], cut)[0])


def _by_attention_received(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    return only(rows, best(rows, received(rows, block, cut), cut)[0])


def _at_random(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    drawn = np.random.default_rng(cut.number).random(rows.x.shape[0] - cut.first).astype(np.float32)
    return only(rows, best(rows, torch.from_numpy(drawn), cut)[0])


def _evenly(rows: Rows, block: BlockRows, cut: TowerCut) -> Rows:
    many = cut.merge**2
    groups = (rows.x.shape[0] - cut.first) // many
    if rows.alive is None:
        chosen = select.spaced(torch.tensor(groups), cut.keep)
    else:
        there = rows.alive[cut.first :].reshape(groups, many)[:, 0]
        candidates = (there > 0).sum()
        spaced = select.spaced(candidates, cut.keep)
        chosen = select.descending(there)[torch.where(candidates > cut.keep, spaced, torch.arange(cut.keep))]
    index = (chosen[:, None] * many + torch.arange(many)).flatten() + cut.first
    return only(rows, torch.cat([torch.arange(cut.first), index]))


TOPK = TowerMethod(
    "topk",
    "the tokens with the highest attention of the class token stay",
    'Top-K as in "Which Tokens to Use?", arXiv 2308.04657; the rule of EViT (arXiv 2202.07800) without its fused token',
    evidence="paper",
    step=_by_class_attention,
    groups=True,
    class_token=True,
)
RECEIVED = TowerMethod(
    "received",
    "the tokens that receive most attention stay; for towers without a class token",
    "the received-attention score of HoliTom (arXiv 2505.21334), between blocks",
    step=_by_attention_received,
    groups=True,
    steady=False,
)
RANDOM = TowerMethod(
    "tower-random", "random tokens stay, the same in every tile", "control", "control", step=_at_random, groups=True
)
UNIFORM = TowerMethod("tower-uniform", "evenly spaced tokens stay", "control", "control", step=_evenly, groups=True)
