"""Stages 2 to 4: warm up a fresh decoder on the frozen tower, show it thumbnails, then train everything."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import Optimizer, Progress, normalise, prefetch, save_state, schedule
from labels import IGNORE, SIDE
from model import Heads, save_checkpoint
from packing import NEWLINE, PREFIX, Batch, Questions, layout, make_batch, mask_and_positions
from scenes import SIZE_SHARES, SPAN
from stage_tower import groups, patch_features, tower_losses
from stage_tower import make_batch as make_views
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration
from whiten import whiten

THUMBNAIL = -1  # instead of a number of tokens to keep


def forward(
    model: LlavaNextForConditionalGeneration, batch: Batch, projected: Tensor, keep: int | None, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at the answer positions, their labels and their loss weights; `keep` image tokens (None: all)."""
    index = torch.from_numpy(layout(batch.grid)).to(device)
    size, width = len(batch.ids), projected.shape[-1]
    flat = torch.cat([projected.reshape(size, -1, width), model.model.image_newline.expand(size, 1, width)], 1)
    if keep == THUMBNAIL:
        kept = torch.arange(SIDE**2, device=device).expand(size, -1)
    elif keep is None or keep >= len(index):
        kept = torch.arange(len(index), device=device).expand(size, -1)
    else:
        kept = torch.from_numpy(batch.order[:, :keep]).to(device).sort(1).values
    source = torch.where(index == NEWLINE, flat.shape[1] - 1, index)[kept]
    image = flat.gather(1, source[..., None].expand(-1, -1, width))
    embed = model.model.language_model.embed_tokens
    head = embed(torch.tensor(PREFIX, device=device)).expand(size, -1, -1)
    inputs = torch.cat([head, image, embed(torch.from_numpy(batch.ids).to(device))], 1)
    mask, positions = mask_and_positions(batch, kept, device)
    hidden = model.model.language_model(
        inputs_embeds=inputs, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state[:, -batch.ids.shape[1] :]
    labels = torch.from_numpy(batch.labels).to(device)
    at = labels != IGNORE
    return model.lm_head(hidden[at]).float(), labels[at], torch.from_numpy(batch.weight).to(device)[at]


def answer_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy over answer tokens."""
    return (F.cross_entropy(logits, labels, reduction="none") * weight).sum() / weight.sum()


def correct_by_kind(batch: Questions, logits: Tensor) -> dict[str, list[bool]]:
    """Exact matches per question kind: every token of the answer and its end must be the arg max."""
    right = np.ones(batch.labels.shape, bool)
    at = batch.labels != IGNORE
    right[at] = logits.argmax(-1).cpu().numpy() == batch.labels[at]
    out: dict[str, list[bool]] = {}
    for row, kinds in enumerate(batch.kinds):
        for number, kind in enumerate(kinds):
            out.setdefault(kind, []).append(bool(right[row][batch.block[row] == number].all()))
    return out


def decoder_groups(model: LlavaNextForConditionalGeneration, projector: float, embeddings: float) -> list[Any]:
    """Optimizer groups of decoder, embeddings and projector."""
    language = model.model.language_model
    matrix = [p for n, p in language.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for p in language.parameters() if p.dim() == 1] + [model.model.image_newline]
    out = [(matrix, 1.0, True), (rest, 1.0, False), ([language.embed_tokens.weight], embeddings, False)]
    if projector:
        out.append((list(model.model.multi_modal_projector.parameters()), projector, False))
    return out


def make_both(asked: tuple[int, int, int, float], dense: tuple[int, int] | None) -> tuple[Batch, Any]:
    """A packed batch, and text-dense views beside it for the helper heads (none in the warm-up)."""
    return make_batch(*asked), dense and make_views(*dense)


def train_decoder(
    model: LlavaNextForConditionalGeneration, heads: Heads, state: Path, previous: Path, steps: int, scenes: int,
    lr: float, seed: int, device: str, stage: str, early: Path | None, save_every: int = 250,
) -> None:  # fmt: skip
    """Run (or resume) a decoder stage.

    "warm-up": tower frozen, first a few content-first tokens, then more and more. "thumbnail": tower frozen, only the
    thumbnail's tokens and no questions about text; here left and right are learned, which tile tokens drown out
    otherwise. "joint": all tokens, everything is trained, with the losses of stage 1 beside.
    """
    joint, warm = stage == "joint", stage == "warm-up"
    saved = torch.load(state if state.exists() else previous, map_location=device)
    model.load_state_dict(saved["model"])
    heads.load_state_dict(saved["heads"])
    start = saved["step"] if state.exists() else 0
    if warm and start == 0:
        whiten(model, heads, seed + 5_000_000, device)
    train = decoder_groups(model, 0.1 if warm else 0.0, 0.2)
    if joint:
        train += groups(model, heads, 0.2)
    optimizer = Optimizer(train, lr)
    if state.exists():
        optimizer.load_state_dict(saved["optimizer"])
    if start >= steps:
        return

    def plan(step: int) -> tuple[int, int, int, float]:
        grid = int(np.random.default_rng((seed, step)).choice(len(SIZE_SHARES), p=SIZE_SHARES))
        return seed + step * scenes, scenes, grid, 0.3 if warm else 0.0

    dense = ((seed + SPAN // 2 + step * scenes, scenes) for step in count(start))
    batches = prefetch(make_both, ((plan(step), next(dense) if joint else None) for step in count(start)))
    progress = Progress(stage, start, steps)
    for step in range(start, steps):
        batch, views = next(batches)
        keep = warm_keep(step, steps, len(layout(batch.grid))) if warm else None if joint else THUMBNAIL
        if keep == THUMBNAIL:
            batch.weight[batch.is_text] = 0
        pixels = normalise(batch.pixels, device)
        if joint:
            out, projected = patch_features(model, torch.cat([pixels, normalise(views[0], device)]))
            labels_of = zip((batch.marks, batch.patches), views[1:], strict=True)
            marks, patches = (torch.from_numpy(np.concatenate(pair)).to(device) for pair in labels_of)
            extra, seen = tower_losses(heads, out, marks, patches, projected)
            projected = projected[: len(pixels)]
        else:
            with torch.no_grad():
                hidden = model.model.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
            projected, seen = model.model.multi_modal_projector(hidden[:, 1:]), {}
            extra = torch.zeros((), device=device)
        logits, labels, weight = forward(model, batch, projected, keep, device)
        loss = answer_loss(logits, labels, weight)
        (2 * loss + 0.25 * extra).backward()
        optimizer.step(schedule(step, steps, warm=50, floor=0.03 if joint else 0.6))
        kinds = {k: float(np.mean(v)) for k, v in correct_by_kind(batch, logits.detach()).items()}
        short = {k: seen[k] for k in ("class", "place", "char_left", "digit_2") if k in seen}
        progress.update(step, scenes, loss=float(loss.detach()), **kinds, **short)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_state(state, model=model.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(),
                       step=step + 1)  # fmt: skip
            if early is not None:
                save_checkpoint(model, early)


def warm_keep(step: int, steps: int, whole: int) -> int:
    """Image tokens shown in the warm-up: 12 for the first half, then growing evenly to all of them at 95 %."""
    grown = max(0.0, (step / steps - 0.5) / 0.45)
    return int(12 + (whole - 12) * min(1.0, grown))
