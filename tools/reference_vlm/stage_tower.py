"""Stage 1: teach the tower. Its class token names the view, its projected patch tokens name what they show."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Optimizer, Progress, class_loss, normalise, patch_loss, place_loss, prefetch, save_state, schedule
from labels import label
from model import Heads
from scenes import make_scene
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration


def make_batch(seed: int, scenes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views and targets of `scenes` text-dense scenes (every third a scene as it is asked about)."""
    views = [label(make_scene(seed + i, dense=i % 3 != 0)) for i in range(scenes)]
    return (
        np.concatenate([v.pixels for v in views]),
        np.concatenate([v.class_labels for v in views]),
        np.concatenate([v.patches for v in views]),
    )


def groups(
    model: LlavaNextForConditionalGeneration, heads: Heads, factor: float = 1.0, matrix: float = 2.5
) -> list[Any]:
    """Optimizer groups of tower, projector and heads: block matrices apart from everything else."""
    named = [*model.model.vision_tower.named_parameters(), *model.model.multi_modal_projector.named_parameters()]
    blocks = [p for n, p in named if p.dim() == 2 and "embedding" not in n]
    taken = {id(p) for p in blocks}
    rest = [p for _, p in named if id(p) not in taken] + list(heads.parameters())
    return [(rest, factor, False), (blocks, factor * matrix, True)]


def patch_features(model: LlavaNextForConditionalGeneration, pixels: Tensor) -> tuple[Any, Tensor]:
    """Tower output and projected patch tokens of each view."""
    out = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True)
    return out, model.model.multi_modal_projector(out.hidden_states[-2][:, 1:])


def tower_losses(
    heads: Heads, out: Any, marks: Tensor, patches: Tensor, projected: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The stage 1 losses, from a tower output with hidden states and the projected patch tokens."""
    by_class = class_loss(heads.view(out.pooler_output), marks)
    by_patch, seen = patch_loss(heads.patch(projected), patches)
    by_place = place_loss(heads.place(projected), patches)
    seen |= {"class": float(by_class.detach()), "patch": float(by_patch.detach()), "place": float(by_place.detach())}
    return 10 * by_class + by_patch + 10 * by_place, seen


def train_tower(
    model: LlavaNextForConditionalGeneration, heads: Heads, state: Path, steps: int, scenes: int, lr: float,
    seed: int, device: str, save_every: int = 300,
) -> None:  # fmt: skip
    """Run (or resume) stage 1; the state file holds everything, the step included."""
    optimizer = Optimizer(groups(model, heads), lr)
    start = 0
    if state.exists():
        saved = torch.load(state, map_location=device)
        model.load_state_dict(saved["model"])
        heads.load_state_dict(saved["heads"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    if start >= steps:
        return
    batches = prefetch(make_batch, ((seed + i * scenes, scenes) for i in count(start)))
    progress = Progress("tower", start, steps)
    for step in range(start, steps):
        pixels, marks, patches = next(batches)
        out, projected = patch_features(model, normalise(pixels, device))
        loss, seen = tower_losses(
            heads, out, torch.from_numpy(marks).to(device), torch.from_numpy(patches).to(device), projected
        )
        loss.backward()
        norm = optimizer.step(schedule(step, steps))
        progress.update(step, len(pixels), loss=float(loss.detach()), norm=norm, **seen)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_state(state, model=model.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(),
                       step=step + 1)  # fmt: skip
