"""Packed decoder batches: all questions of a scene share one image prefix, in a block mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from drawing import TILE, Scene
from labels import IGNORE, SIDE, TARGET_INDEX, label
from questions import QA, SPECIALS, ask, vocabulary
from scenes import SIZES, make_scene
from torch import Tensor

PREFIX = (SPECIALS.index("<bos>"), SPECIALS.index("<|user|>"))
ASSISTANT, EOS = SPECIALS.index("<|assistant|>"), SPECIALS.index("<eos>")
TOKEN_IDS = {word: i for i, word in enumerate(vocabulary())}
NEWLINE = -1
ROUND = 1 << 40  # keeps the seeds of the second round of questions apart
KIND_WEIGHT = {"number": 2.0, "count": 2.0, "position": 2.0}  # the slow ones count double in the loss


@dataclass(kw_only=True)
class Questions:
    """Questions and answers about B scenes, at most L tokens each."""

    ids: np.ndarray  # (B, L) question and answer tokens
    block: np.ndarray  # (B, L) which question a token belongs to, -1 for padding
    place: np.ndarray  # (B, L) position inside its block
    labels: np.ndarray  # (B, L) the next token where it is an answer's, else IGNORE
    weight: np.ndarray  # (B, L) loss weight
    is_text: np.ndarray  # (B, L) whether the question is about a number or a word
    kinds: list[list[str]]


@dataclass(kw_only=True)
class Batch(Questions):
    """Scenes of one grid with their questions; V views each, N image tokens."""

    pixels: np.ndarray  # (B * V, 112, 112, 3)
    marks: np.ndarray  # (B * V, class labels)
    patches: np.ndarray  # (B * V, 64, targets)
    order: np.ndarray  # (B, N) image tokens, what shows text or a shape first
    grid: int


@lru_cache
def layout(grid: int) -> np.ndarray:
    """For each image token in packed order: its index in (views x 64), or NEWLINE."""
    rows, columns = SIZES[grid][0] // TILE, SIZES[grid][1] // TILE
    tiles = np.arange(SIDE**2, SIDE**2 * (1 + rows * columns)).reshape(rows, columns, SIDE, SIDE)
    lines = tiles.transpose(0, 2, 1, 3).reshape(rows * SIDE, columns * SIDE)
    lines = np.concatenate([lines, np.full((len(lines), 1), NEWLINE)], 1)
    return np.concatenate([np.arange(SIDE**2), lines.reshape(-1)])


def tokens(text: str, known: dict[str, int]) -> list[int]:
    """Token ids of a question or an answer (digits and punctuation are single tokens)."""
    for mark in "?.,":
        text = text.replace(mark, f" {mark} ")
    return [i for word in text.split() for i in ([known[c] for c in word] if word.isdigit() else [known[word]])]


def pack_questions(asked: list[list[QA]], known: dict[str, int], closing: tuple[int, ...], end: int) -> dict[str, Any]:
    """The fields of `Questions`, by name: `closing` follows every question, `end` every answer."""
    rows = []
    for questions in asked:
        row: list[tuple[int, int, int, int, float, bool]] = []
        for number, (kind, question, answer) in enumerate(questions):
            reply = [*tokens(answer, known), end]
            told = [*tokens(question, known), *closing]
            labels = [IGNORE] * (len(told) - 1) + reply
            weight = KIND_WEIGHT.get(kind, 1.0)
            about_text = kind in ("number", "word")
            row += [(t, number, i, labels[i], weight, about_text) for i, t in enumerate(told + reply[:-1])]
        rows.append(row)
    length = max(1, max(len(r) for r in rows))
    filled = np.array([r + [(0, -1, 0, IGNORE, 0.0, False)] * (length - len(r)) for r in rows]).reshape(
        len(rows), length, 6
    )
    whole = filled[..., :4].astype(np.int64)
    return {
        "ids": whole[..., 0], "block": whole[..., 1], "place": whole[..., 2], "labels": whole[..., 3],
        "weight": filled[..., 4].astype(np.float32), "is_text": filled[..., 5] > 0,
        "kinds": [[q[0] for q in a] for a in asked],
    }  # fmt: skip


def make_batch(seed: int, scenes: int, grid: int, easy_share: float) -> Batch:
    """Scenes `seed`, `seed + 1`, ... of one grid; asked twice over, which costs little beside the image tokens."""
    rng = np.random.default_rng((seed, 2))
    packed = [make_scene(seed + i, grid=grid, easy=rng.random() < easy_share) for i in range(scenes)]
    return pack([(scene, seed + i) for i, scene in enumerate(packed)], grid, rng, rounds=2)


def pack(scenes: list[tuple[Scene, int]], grid: int, rng: np.random.Generator, rounds: int = 1) -> Batch:
    """Pack (scene, seed) pairs of one grid."""
    views = [label(scene) for scene, _ in scenes]
    asked = [[q for r in range(rounds) for q in ask(scene, seed + r * ROUND, drill=r == 1)] for scene, seed in scenes]
    index = layout(grid)
    order = []
    for view in views:
        flat = view.patches.reshape(-1, view.patches.shape[-1])
        content = (flat[:, TARGET_INDEX["object"]] > 0) | (flat[:, TARGET_INDEX["text"]] > 0)
        shown = content[index] & (index >= 0)
        order.append(np.argsort(rng.random(len(index)) - shown))
    return Batch(
        pixels=np.concatenate([v.pixels for v in views]), marks=np.concatenate([v.class_labels for v in views]),
        patches=np.concatenate([v.patches for v in views]), order=np.stack(order), grid=grid,
        **pack_questions(asked, TOKEN_IDS, (ASSISTANT,), EOS),
    )  # fmt: skip


def block_mask(block: Tensor, prefix: int) -> Tensor:
    """Additive mask (B, 1, T, T): every token sees the `prefix` tokens before it and its own block, causally."""
    owner = torch.cat([block.new_full((len(block), prefix), -2), block], 1)
    total = owner.shape[1]
    causal = torch.ones(total, total, dtype=torch.bool, device=block.device).tril()
    seen = causal & ((owner[:, None, :] == -2) | (owner[:, None, :] == owner[:, :, None]))
    mask = torch.zeros(len(block), 1, total, total, dtype=torch.bfloat16, device=block.device)
    return mask.masked_fill_(~seen[:, None], -1e9)


def mask_and_positions(batch: Batch, kept: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Additive block mask (B, 1, T, T) and position ids (B, T) for the prefix with the image tokens `kept` (B, K).

    Kept image tokens keep the position they have in the whole prefix; every question starts right behind it.
    """
    block, place = (torch.from_numpy(v).to(device) for v in (batch.block, batch.place))
    size, count = block.shape[0], len(layout(batch.grid))
    head = torch.arange(len(PREFIX), device=device).expand(size, -1)
    positions = torch.cat([head, kept + len(PREFIX), place + len(PREFIX) + count], 1)
    return block_mask(block, len(PREFIX) + kept.shape[1]), positions
