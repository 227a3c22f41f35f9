"""Packed batches in SmolVLM's order: tiles row by row, the overview last, separators between; questions behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from drawing import Scene
from labels import IGNORE, label
from packing import Questions, block_mask, pack_questions
from PIL import Image
from prompt import CLOSING, END, IDS, IMAGE, prefix
from questions import ask
from scenes import make_scene
from torch import Tensor
from transformers import SmolVLMForConditionalGeneration


@dataclass(kw_only=True)
class TiledBatch(Questions):
    """Scenes of one grid with their questions; V views each, the overview last."""

    pixels: np.ndarray  # (B * V, 112, 112, 3)
    patches: np.ndarray  # (B * V, 64, targets)
    grid: int


def tiled(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and patch targets of the tiles and, last, the overview.

    Both Lanczos resizes of the image processor are the identity here: no side is odd or needs rounding up.
    """
    views = label(scene, Image.Resampling.LANCZOS)
    return np.roll(views.pixels, -1, 0), np.roll(views.patches, -1, 0)


def make_batch(seed: int, scenes: int, grid: int) -> TiledBatch:
    """Scenes `seed`, `seed + 1`, ... of one grid, with every position question there is."""
    return pack([(make_scene(seed + i, grid=grid), seed + i) for i in range(scenes)], grid, drill=True)


def make_views(seed: int, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Views and patch targets of text-dense scenes (every third a scene as it is asked about)."""
    pixels, patches = zip(*(tiled(make_scene(seed + i, dense=i % 3 != 0)) for i in range(scenes)), strict=True)
    return np.concatenate(pixels), np.concatenate(patches)


def pack(scenes: list[tuple[Scene, int]], grid: int, drill: bool = False) -> TiledBatch:
    """Pack (scene, seed) pairs of one grid."""
    pixels, patches = zip(*(tiled(scene) for scene, _ in scenes), strict=True)
    asked = [ask(scene, seed, drill) for scene, seed in scenes]
    return TiledBatch(
        pixels=np.concatenate(pixels), patches=np.concatenate(patches), grid=grid,
        **pack_questions(asked, IDS, CLOSING, IDS[END]),
    )  # fmt: skip


def visual_slots(grid: int) -> Tensor:
    """Indices in the prefix of all visual tokens, in order."""
    return torch.tensor([i for i, token in enumerate(prefix(grid)) if token == IDS[IMAGE]])


def forward(
    model: SmolVLMForConditionalGeneration, batch: TiledBatch, features: Tensor, dropped: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at the answer positions, their labels and their loss weights.

    `features` are the visual tokens of all views, `dropped` the prefix slots that nothing may look at.
    """
    device, size, width = features.device, len(batch.ids), features.shape[-1]
    embed = model.model.text_model.embed_tokens
    start = torch.tensor(prefix(batch.grid), device=device)
    head = embed(start).expand(size, -1, -1).clone()
    head[:, visual_slots(batch.grid).to(device)] = features.reshape(size, -1, width)
    inputs = torch.cat([head, embed(torch.from_numpy(batch.ids).to(device))], 1)
    block, place = (torch.from_numpy(v).to(device) for v in (batch.block, batch.place))
    mask = block_mask(block, len(start))
    if dropped is not None:
        mask[..., dropped] = -1e9
    positions = torch.cat([torch.arange(len(start), device=device).expand(size, -1), place + len(start)], 1)
    hidden = model.model.text_model(
        inputs_embeds=inputs, attention_mask=mask.to(inputs.dtype), position_ids=positions, use_cache=False
    ).last_hidden_state[:, -batch.ids.shape[1] :]
    labels = torch.from_numpy(batch.labels).to(device)
    at = labels != IGNORE
    return model.lm_head(hidden[at]).float(), labels[at], torch.from_numpy(batch.weight).to(device)[at]
