"""Stages whose rows are known without a ranking in the language model: VFlowOpt, ToDRE, YOPO, LVLM_CSP's first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .attention import attention_of
from .rows import Array, by_encoder, by_noise, dropped_all, kept

GATE = 0.10
YOPO_LAYERS = {40: 20, 28: 24}  # layers of the model -> first layer without visual rows, as published


def vflowopt(score: Mapping[int, float], counts: Sequence[int]) -> list[list[int]]:
    """VFlowOpt's later stages (repository sihany077/VFlowOpt): visual rows of every stage, all from the encoder's score.

    Released: before layers 9 and 18 of 28 a share r1, then r2 of the rows *that arrive* stays, positions kept; newlines
    have score 1 in the original and are fixed rows here. Left open: how the shares are rounded; counts are an input.
    One order serves all stages, so later lists are prefixes of it.
    """
    order = by_encoder(score)
    return [kept(order, count) for count in counts]


def yopo(rows: Sequence[int], visual: Sequence[int]) -> list[int]:
    """YOPO's visual cut (repository ZhangAIPI/YOPO_MLLM_Pruning): from one layer on only what is not visual.

    The repository gives visual keys weight 0 there, at full cost; leaving the rows out is the same for every other row.
    Differs: LLaVA's checkpoints are fine-tuned for it. Not covered: attention among neighbours only, heads, MLP channels.
    Left open: whether newlines inside the picture are "visual" (they stay here, as fixed rows do everywhere).
    """
    return dropped_all(rows, visual)


def todre_layer(layers: int) -> int:
    """ToDRE's second stage (paper, second version; no code): before layer 7 L / 8. Left open: L not a multiple of 8 (cut off)."""
    return 7 * layers // 8


def mass(queries: Array, keys: Array, asking: Sequence[int], columns: Sequence[int]) -> float:
    """Share of the asking rows' attention that falls on some columns: mean over heads and asking rows, causal rows.

    `queries` [L, H * d] and `keys` [G, L, d] of one layer, rotated.
    """
    found = []
    for row in asking:
        weights = attention_of(queries[row], keys, list(range(row + 1)))
        found.append(float(sum(weights[:, column].mean() for column in columns if column <= row)))
    return float(np.mean(found)) if found else 0.0


def todre_drops(queries: Array, keys: Array, visual: Sequence[int], text: Sequence[int]) -> bool:
    """ToDRE's gate: all visual rows leave when text looks at visual rows *and* visual rows look at text by less than 0.10.

    Left open: which text rows ask (all of the prompt's, or those behind the picture: those before it cannot see it and
    lower the mean); the caller says. A plan decides this once by calibration, not per picture.
    """
    return mass(queries, keys, text, visual) < GATE and mass(queries, keys, visual, text) < GATE


def representatives(visual: Sequence[int], count: int) -> list[int]:
    """LVLM_CSP's uniform stride: visual rows number i * floor(N / count), i < count; all where there are no more."""
    if count >= len(visual):
        return list(visual)
    return [visual[i * (len(visual) // count)] for i in range(count)]


def representatives_by_score(score: Mapping[int, float], count: int) -> list[int]:
    """LVLM_CSP's other choice: the highest class attention; ascending."""
    return kept(by_encoder(score), count)


def representatives_by_noise(noise: Array, visual: Sequence[int], count: int) -> list[int]:
    """LVLM_CSP's random choice, from given noise [L]; ascending."""
    return kept(by_noise(noise, visual), count)
