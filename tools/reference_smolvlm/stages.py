"""The stages: distil the tower, connect it to the decoder, then train everything together."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import Optimizer, Progress, normalise, patch_loss, place_loss, prefetch, save_state, schedule
from scenes import SIZE_SHARES, SPAN
from smolvlm import CONSTANTS, Heads, merge_order, save_checkpoint, tile_features
from stage_decoder import answer_loss, correct_by_kind
from start import first_model, start_decoder, start_tower, teacher_features
from tiles import TiledBatch, forward, make_batch, make_views
from torch import Tensor, nn
from transformers import SmolVLMForConditionalGeneration


def matrices_apart(module: nn.Module, factor: float, matrix: float) -> list[Any]:
    """Optimizer groups of a module: block matrices for Muon, everything else for AdamW."""
    named = list(module.named_parameters())
    blocks = [p for n, p in named if p.dim() == 2 and "embed" not in n]
    taken = {id(p) for p in blocks}
    return [([p for _, p in named if id(p) not in taken], factor, False), (blocks, factor * matrix, True)]


def resume(state: Path, model: nn.Module, heads: nn.Module, optimizer: Optimizer, device: str) -> int:
    """Load a stage's state into model, heads and optimizer; the step to go on with (0 without a state)."""
    if not state.exists():
        return 0
    saved = torch.load(state, map_location=device)
    model.load_state_dict(saved["model"])
    heads.load_state_dict(saved["heads"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


def distil(
    model: SmolVLMForConditionalGeneration, heads: Heads, state: Path, steps: int, scenes: int, lr: float, seed: int,
    device: str, save_every: int = 100,
) -> None:  # fmt: skip
    """The tower learns to give, behind its last norm, the (normalised) patch features of the first model's tower."""
    tower = model.model.vision_model
    if not state.exists():
        start_tower(model.float(), seed + 5_000_000, device)
        model.bfloat16()
    optimizer = Optimizer(matrices_apart(tower, 1.0, 1.0), lr)
    start = resume(state, model, heads, optimizer, device)
    if start >= steps:
        return
    teacher = first_model(device, torch.bfloat16)
    batches = prefetch(make_views, ((seed + i * scenes, scenes) for i in count(start)))
    progress = Progress("distil", start, steps, every=20)
    for step in range(start, steps):
        pixels, _ = next(batches)
        goal = teacher_features(teacher, pixels, device).float()
        goal = F.layer_norm(goal, goal.shape[-1:])
        found = tower(pixel_values=normalise(pixels, device, constants=CONSTANTS)).last_hidden_state
        loss = F.mse_loss(found.float(), goal)
        loss.backward()
        norm = optimizer.step(schedule(step, steps, warm=30))
        progress.update(step, len(pixels), loss=float(loss.detach()), norm=norm)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_state(state, model=model.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(),
                       step=step + 1)  # fmt: skip


def helper_loss(heads: Heads, features: Tensor, patches: np.ndarray) -> tuple[Tensor, dict[str, float]]:
    """Loss of the helper heads on the visual tokens, and what they recognise."""
    targets = merge_order(torch.from_numpy(patches).to(features.device))
    by_patch, seen = patch_loss(heads.patch(features), targets)
    by_place = place_loss(heads.place(features).unflatten(-1, (-1, 2)), targets)
    return by_patch + 10 * by_place, seen | {"place": float(by_place.detach())}


def make_both(asked: tuple[int, int, int], dense: tuple[int, int]) -> tuple[TiledBatch, Any]:
    """A packed batch, and text-dense views beside it for the helper heads."""
    return make_batch(*asked), make_views(*dense)


def train(
    model: SmolVLMForConditionalGeneration, heads: Heads, state: Path, previous: Path, steps: int, scenes: int,
    dense: int, lr: float, seed: int, device: str, stage: str, early: Path | None, save_every: int = 50,
) -> None:  # fmt: skip
    """Answer questions, with the helper losses beside; "connect" leaves the tower frozen, "joint" trains everything."""
    joint = stage == "joint"
    if not state.exists():
        saved = torch.load(previous, map_location=device)
        model.load_state_dict(saved["model"])
        heads.load_state_dict(saved["heads"])
        if not joint:
            start_decoder(model, seed + 5_000_000, device)
    decoder = model.model.text_model
    groups = [
        *matrices_apart(decoder, 1.0, 1.0), ([decoder.embed_tokens.weight], 0.2, False),
        (list(model.model.connector.parameters()), 0.5, True), (list(heads.parameters()), 1.0, False),
    ]  # fmt: skip
    groups[0] = ([p for p in groups[0][0] if p is not decoder.embed_tokens.weight], 1.0, False)
    if joint:
        groups += matrices_apart(model.model.vision_model, 0.2, 2.5)
    optimizer = Optimizer(groups, lr)
    start = resume(state, model, heads, optimizer, device)
    if start >= steps:
        return
    model.model.vision_model.requires_grad_(joint)

    def plan(step: int) -> tuple[int, int, int]:
        grid = int(np.random.default_rng((seed, step)).choice(len(SIZE_SHARES), p=SIZE_SHARES))
        return seed + step * scenes, scenes, grid

    batches = prefetch(make_both, ((plan(i), (seed + SPAN // 2 + i * dense, dense)) for i in count(start)))
    progress = Progress(stage, start, steps, every=20)
    for step in range(start, steps):
        batch, (pixels, patches) = next(batches)
        both = np.concatenate([batch.pixels, pixels])
        features = tile_features(model, normalise(both, device, constants=CONSTANTS))
        extra, seen = helper_loss(heads, features, np.concatenate([batch.patches, patches]))
        logits, labels, weight = forward(model, batch, features[: len(batch.pixels)])
        loss = answer_loss(logits, labels, weight)
        (2 * loss + 0.25 * extra).backward()
        optimizer.step(schedule(step, steps, warm=30, floor=0.03 if joint else 0.6))
        kinds = {k: float(np.mean(v)) for k, v in correct_by_kind(batch, logits.detach()).items()}
        short = {k: seen[k] for k in ("place", "object", "char_left", "digit_2") if k in seen}
        progress.update(step, scenes, loss=float(loss.detach()), extra=float(extra.detach()), **kinds, **short)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_state(state, model=model.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(),
                       step=step + 1)  # fmt: skip
            if early is not None:
                save_checkpoint(model, early)
