"""Packed decoder batches: all questions of a scene share one image prefix, in a block mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from drawing import TILE, Scene
from labels import IGNORE, SIDE, TARGET_INDEX, label
from questions import SPECIALS, ask, vocabulary
from scenes import SIZES, make_scene
from torch import Tensor

PREFIX = (SPECIALS.index("<bos>"), SPECIALS.index("<|user|>"))
ASSISTANT, EOS = SPECIALS.index("<|assistant|>"), SPECIALS.index("<eos>")
TOKEN_IDS = {word: i for i, word in enumerate(vocabulary())}
NEWLINE = -1
ROUND = 1 << 40  # keeps the seeds of the second round of questions apart
KIND_WEIGHT = {"number": 2.0, "count": 2.0, "position": 2.0}  # the slow ones count double in the loss


@dataclass
class Batch:
    """Scenes of one grid, as arrays; B scenes, V views each, L question tokens."""

    pixels: np.ndarray  # (B * V, 112, 112, 3)
    marks: np.ndarray  # (B * V, class labels)
    patches: np.ndarray  # (B * V, 64, targets)
    ids: np.ndarray  # (B, L) question and answer tokens
    block: np.ndarray  # (B, L) which question a token belongs to, -1 for padding
    place: np.ndarray  # (B, L) position inside its block
    labels: np.ndarray  # (B, L) the next token where it is an answer's, else IGNORE
    weight: np.ndarray  # (B, L) loss weight
    is_text: np.ndarray  # (B, L) whether the question is about a number or a word
    order: np.ndarray  # (B, N) image tokens, what shows text or a shape first
    kinds: list[list[str]]
    grid: int


@lru_cache
def layout(grid: int) -> np.ndarray:
    """For each image token in packed order: its index in (views x 64), or NEWLINE."""
    rows, columns = SIZES[grid][0] // TILE, SIZES[grid][1] // TILE
    tiles = np.arange(SIDE**2, SIDE**2 * (1 + rows * columns)).reshape(rows, columns, SIDE, SIDE)
    lines = tiles.transpose(0, 2, 1, 3).reshape(rows * SIDE, columns * SIDE)
    lines = np.concatenate([lines, np.full((len(lines), 1), NEWLINE)], 1)
    return np.concatenate([np.arange(SIDE**2), lines.reshape(-1)])


def tokens(text: str) -> list[int]:
    """Token ids of a question or an answer (digits and punctuation are single tokens)."""
    for mark in "?.,":
        text = text.replace(mark, f" {mark} ")
    return [i for word in text.split() for i in ([TOKEN_IDS[c] for c in word] if word.isdigit() else [TOKEN_IDS[word]])]


def make_batch(seed: int, scenes: int, grid: int, easy_share: float) -> Batch:
    """Scenes `seed`, `seed + 1`, ... of one grid; asked twice over, which costs little beside the image tokens."""
    rng = np.random.default_rng((seed, 2))
    packed = [make_scene(seed + i, grid=grid, easy=rng.random() < easy_share) for i in range(scenes)]
    return pack([(scene, seed + i) for i, scene in enumerate(packed)], grid, rng, rounds=2)


def pack(scenes: list[tuple[Scene, int]], grid: int, rng: np.random.Generator, rounds: int = 1) -> Batch:
    """Pack (scene, seed) pairs of one grid."""
    views = [label(scene) for scene, _ in scenes]
    asked = [[q for r in range(rounds) for q in ask(scene, seed + r * ROUND, drill=r == 1)] for scene, seed in scenes]
    rows = []
    for questions in asked:
        row: list[tuple[int, int, int, int, float, bool]] = []
        for number, (kind, question, answer) in enumerate(questions):
            reply = [*tokens(answer), EOS]
            known = [*tokens(question), ASSISTANT]
            labels = [IGNORE] * (len(known) - 1) + reply
            weight = KIND_WEIGHT.get(kind, 1.0)
            about_text = kind in ("number", "word")
            row += [(t, number, i, labels[i], weight, about_text) for i, t in enumerate(known + reply[:-1])]
        rows.append(row)
    length = max(1, max(len(r) for r in rows))
    filled = np.array([r + [(0, -1, 0, IGNORE, 0.0, False)] * (length - len(r)) for r in rows]).reshape(
        len(rows), length, 6
    )
    index = layout(grid)
    order = []
    for view in views:
        flat = view.patches.reshape(-1, view.patches.shape[-1])
        content = (flat[:, TARGET_INDEX["object"]] > 0) | (flat[:, TARGET_INDEX["text"]] > 0)
        shown = content[index] & (index >= 0)
        order.append(np.argsort(rng.random(len(index)) - shown))
    whole = filled[..., :4].astype(np.int64)
    return Batch(
        np.concatenate([v.pixels for v in views]), np.concatenate([v.class_labels for v in views]),
        np.concatenate([v.patches for v in views]), whole[..., 0], whole[..., 1], whole[..., 2], whole[..., 3],
        filled[..., 4].astype(np.float32), filled[..., 5] > 0, np.stack(order), [[q[0] for q in a] for a in asked], grid,
    )  # fmt: skip


def mask_and_positions(batch: Batch, kept: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Additive block mask (B, 1, T, T) and position ids (B, T) for the prefix with the image tokens `kept` (B, K).

    Kept image tokens keep the position they have in the whole prefix; every question starts right behind it.
    """
    block, place = (torch.from_numpy(v).to(device) for v in (batch.block, batch.place))
    size, count = block.shape[0], len(layout(batch.grid))
    head = torch.arange(len(PREFIX), device=device).expand(size, -1)
    positions = torch.cat([head, kept + len(PREFIX), place + len(PREFIX) + count], 1)
    owner = torch.cat([torch.full((size, len(PREFIX) + kept.shape[1]), -2, device=device), block], 1)
    total = owner.shape[1]
    causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    seen = causal & ((owner[:, None, :] == -2) | (owner[:, None, :] == owner[:, :, None]))
    mask = torch.zeros(size, 1, total, total, dtype=torch.bfloat16, device=device)
    return mask.masked_fill_(~seen[:, None], -1e9), positions
