"""Shared by the training stages: batches made ahead in one worker, the mixed-precision optimizer, losses, resuming."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from labels import IGNORE, PATCH_TARGETS, SIDE, TARGET_INDEX
from model import MEAN, STD
from torch import Tensor, nn

POSITIVE_WEIGHT = {"object": 4.0, "centre": 10.0, "text": 4.0, "char_left": 6.0, "char_right": 6.0}
PATCH_WEIGHT = {"centre": 0.5, "text": 0.5, "row": 0.1, "column": 0.1, "thumbnail": 0.1}


def prefetch(make: Callable[..., Any], arguments: Iterator[tuple[Any, ...]], ahead: int = 6) -> Iterator[Any]:
    """Results of `make(*arguments)` in order, made ahead by one worker process."""
    with ProcessPoolExecutor(1, initializer=os.nice, initargs=(0,)) as pool:
        waiting = deque(pool.submit(make, *next(arguments)) for _ in range(ahead))
        while True:
            yield waiting.popleft().result()
            waiting.append(pool.submit(make, *next(arguments)))


def normalise(
    pixels: np.ndarray, device: str = "cpu", dtype: torch.dtype = torch.bfloat16,
    constants: tuple[tuple[float, ...], tuple[float, ...]] = (MEAN, STD),
) -> Tensor:  # fmt: skip
    """uint8 (views, height, width, 3) to what an image processor with these constants (mean, deviation) would give."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in constants)
    return ((x - mean) / std).to(dtype)


class Optimizer:
    """Muon for the matrices and AdamW for the rest, on fp32 masters of bf16 weights.

    `groups` is a list of (parameters, learning-rate factor); matrices of blocks go to Muon when `muon` is on.
    """

    def __init__(self, groups: list[tuple[list[nn.Parameter], float, bool]], lr: float, decay: float = 0.05) -> None:
        self.lr = lr
        self.live: list[Tensor] = []
        self.masters: list[Tensor] = []
        adam: list[dict[str, Any]] = []
        muon: list[dict[str, Any]] = []
        for parameters, factor, matrix in groups:
            masters = [p.detach().float().clone() for p in parameters]
            self.live += parameters
            self.masters += masters
            (muon if matrix else adam).append({"params": masters, "factor": factor})
        self.parts: list[torch.optim.Optimizer] = []
        if adam:
            self.parts.append(torch.optim.AdamW(adam, lr=lr, betas=(0.9, 0.98), weight_decay=decay, foreach=True))
        if muon:
            self.parts.append(torch.optim.Muon(muon, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))

    def step(self, scale: float) -> float:
        """One update at `scale` times the base learning rate; returns the gradient norm."""
        pairs = [(m, p) for m, p in zip(self.masters, self.live, strict=True)]
        for master, p in pairs:
            master.grad = None if p.grad is None else p.grad.float()
            p.grad = None
        norm = float(nn.utils.clip_grad_norm_(self.masters, 1.0))
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.lr * scale * group["factor"]
            part.step()
        with torch.no_grad():
            torch._foreach_copy_(self.live, self.masters)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Masters and moments."""
        return {"masters": self.masters, "parts": [p.state_dict() for p in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`, and the live weights with it."""
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.copy_(saved)
        for part, saved in zip(self.parts, state["parts"], strict=True):
            factors = [group["factor"] for group in part.param_groups]
            part.load_state_dict(saved)
            for group, factor in zip(part.param_groups, factors, strict=True):
                group["factor"] = factor  # so that a resumed run may change it
        with torch.no_grad():
            torch._foreach_copy_(self.live, self.masters)


def schedule(step: int, total: int, warm: int = 100, floor: float = 0.03) -> float:
    """Linear warm-up, flat for half of the run, then cosine down to `floor`."""
    if step < warm:
        return (step + 1) / warm
    progress = max(0.0, (step / total - 0.4) / 0.6)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label loss of the class token; labels of -1 are not asked."""
    asked = (labels >= 0).float()
    raw = F.binary_cross_entropy_with_logits(logits.float(), labels.clamp_min(0).float(), reduction="none")
    return (raw * asked).sum() / asked.sum()


def patch_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum of the cross-entropies of all patch targets, and the accuracy of each on what is not background."""
    total = logits.new_zeros((), dtype=torch.float32)
    seen: dict[str, float] = {}
    flat = targets.reshape(-1, len(PATCH_TARGETS)).long()
    parts = logits.reshape(flat.shape[0], -1).split([size for _, size in PATCH_TARGETS], -1)
    for i, (name, _) in enumerate(PATCH_TARGETS):
        target, part = flat[:, i], parts[i]
        if name in ("word", "digit_1", "digit_2", "digit_3"):
            keep = (target != IGNORE).nonzero()[:, 0]
            target, part = target[keep], part[keep]
        if not len(target):
            continue
        part = part.float()
        raw = F.cross_entropy(part, target, ignore_index=IGNORE, reduction="none")
        weight = torch.where(target > 0, POSITIVE_WEIGHT.get(name, 1.0), 1.0) * (target != IGNORE)
        total = total + PATCH_WEIGHT.get(name, 1.0) * (raw * weight).sum() / weight.sum().clamp_min(1)
        shown = (target > 0) if name in POSITIVE_WEIGHT else (target != IGNORE)
        seen[name] = float((part.detach().argmax(-1) == target)[shown].float().mean())
    return total, seen


def place_loss(found: Tensor, targets: Tensor) -> Tensor:
    """Regression of a patch's place in the picture: (x, y) in -1..1 on the thumbnail, 0 in the tiles.

    Not a classification on purpose: only a regression makes the tokens carry a place that tiles do not blur.
    """
    flat = targets.float()
    middle = (SIDE - 1) / 2
    place = flat[..., [TARGET_INDEX["column"], TARGET_INDEX["row"]]] / middle - 1
    return F.mse_loss(found.float(), place * flat[..., TARGET_INDEX["thumbnail"], None])


class Progress:
    """A log line now and then: step, running means, rate, time left."""

    def __init__(self, name: str, start: int, total: int, every: int = 50) -> None:
        self.name, self.total, self.every = name, total, every
        self.first, self.begun = start, time.time()
        self.sums: dict[str, list[float]] = {}

    def update(self, step: int, units: int, **values: float) -> None:
        """Note the values of one step; print every `every` steps."""
        for key, value in values.items():
            if value == value:
                self.sums.setdefault(key, []).append(value)
        done = step + 1
        if done % self.every and done != self.total:
            return
        spent = time.time() - self.begun
        rate = (done - self.first) / spent
        text = " ".join(f"{k}={np.mean(v):.3f}" for k, v in self.sums.items())
        left = (self.total - done) / rate
        print(f"[{self.name}] {done}/{self.total} {text} | {rate * units:.0f}/s left {left / 60:.1f} min", flush=True)
        self.sums = {}


def save_state(path: Path, **state: Any) -> None:
    """Save atomically, so that a kill at any time leaves a state to resume from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
