"""A short recovery: the pruned model learns to answer as the unpruned one does, on the user's pictures.

Loss: KL divergence between the two models' outputs, softened, plus the distance of their features. LoRA (peft) or all weights of the pruned
parts. Seeded; a run that was interrupted goes on where it stopped, to the same end.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, mse_loss

from edgeprune.errors import ExportError, PlanError
from edgeprune.structure.plan import StructurePlan
from edgeprune.structure.sites import block_lists, linears
from edgeprune_export.bundle.progress import Track
from edgeprune_export.pruning.options import Recovery
from edgeprune_export.pruning.prunable import PrunableModel
from edgeprune_runtime.files import staged
from edgeprune_runtime.installed import how_to_install

_SAVE_EVERY = 50


def recover(
    prunable: PrunableModel, smaller: nn.Module, plan: StructurePlan, how: Recovery, state: Path, track: Track
) -> nn.Module:
    """Train `smaller` and return it, adapters merged. `state`: where an interrupted run is kept; removed at the end."""
    asked = _asked(prunable, smaller, how)
    torch.manual_seed(how.seed)
    student = _with_adapters(smaller, plan, how) if how.lora else _all_trainable(smaller, plan)
    trained = {name: p for name, p in student.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=how.rate, weight_decay=0.01)
    start = _resume(state, asked, trained, optimizer)
    for group in optimizer.param_groups:
        group["initial_lr"] = how.rate  # what a schedule that starts in the middle goes by
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(how.steps), last_epoch=start - 1)
    student.train()
    with track("recovering", how.steps) as advance:
        for step in range(how.steps):
            if step >= start:
                _step(prunable, student, how, step, optimizer)
                schedule.step()
                if (step + 1) % _SAVE_EVERY == 0:
                    _save(state, asked, step + 1, trained, optimizer)
            advance()
    state.unlink(missing_ok=True)
    student.eval().requires_grad_(False)
    return student.merge_and_unload() if how.lora else student  # type: ignore[operator]


def _step(
    prunable: PrunableModel, student: nn.Module, how: Recovery, step: int, optimizer: torch.optim.Optimizer
) -> None:
    """One update on `batch` samples, gathered over as many forward passes as they need."""
    total = 0.0
    chosen = list(_drawn(prunable.samples, how, step))
    random = torch.Generator().manual_seed(how.seed * 1_000_003 + step)
    for start in range(0, len(chosen), prunable.side_by_side):
        numbers = chosen[start : start + prunable.side_by_side]
        batch = prunable.batch(numbers, random)
        with torch.no_grad():
            wanted = prunable.features(prunable.module, batch)
        loss = distance(prunable.features(student, batch), wanted, how) * len(numbers) / len(chosen)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    if not math.isfinite(total):
        raise ExportError(f"recovery diverged at step {step}: the loss is {total}; use a smaller --rate or fewer steps")
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad()


def distance(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], how: Recovery) -> Tensor:
    """temperature^2 KL(wanted || found) of the softened outputs, mean over rows, + features * MSE / mean square of the wanted features."""
    t = how.temperature
    soft = kl_div(log_softmax(found[1] / t, -1), log_softmax(wanted[1] / t, -1), reduction="batchmean", log_target=True)
    near = mse_loss(found[0], wanted[0]) / wanted[0].square().mean()
    return soft * t * t + how.features * near


def _drawn(samples: int, how: Recovery, step: int) -> Iterator[int]:
    """Samples of a step: a new order of all of them per epoch, from the seed and the epoch's number alone."""
    for place in range(step * how.batch, (step + 1) * how.batch):
        epoch, number = divmod(place, samples)
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(how.seed * 7919 + epoch))
        yield int(order[number])


def _all_trainable(smaller: nn.Module, plan: StructurePlan) -> nn.Module:
    for part, (_, blocks) in block_lists(smaller).items():
        for i, block in enumerate(blocks):
            block.requires_grad_(i < len(plan.of(part) or ()))
    return smaller


def _with_adapters(smaller: nn.Module, plan: StructurePlan, how: Recovery) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise PlanError(
            f"recovery with LoRA needs peft, not installed here; install with {how_to_install('peft')}, or train all weights"
        ) from error
    names = [name for (part, block, _), (name, _) in linears(smaller).items() if block < len(plan.of(part) or ())]
    config = LoraConfig(r=how.lora, lora_alpha=2 * (how.lora or 1), lora_dropout=0.0, target_modules=names)
    return get_peft_model(smaller, config)


def _warm_cosine(steps: int) -> Any:
    """Linear warm-up over a tenth of the steps, then a cosine down to a hundredth."""
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def _asked(prunable: PrunableModel, smaller: nn.Module, how: Recovery) -> str:
    """What a saved state belongs to: the settings, and the weights that the recovery starts from."""
    digest = hashlib.sha256()
    for name, value in smaller.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return msgspec.json.encode([asdict(how), prunable.samples, digest.hexdigest()]).decode()


def _save(state: Path, asked: str, step: int, trained: dict[str, nn.Parameter], optimizer: Any) -> None:
    from safetensors.torch import save_file

    tensors = {f"weight {name}": p.detach().contiguous() for name, p in trained.items()}
    for name, p in trained.items():
        tensors |= {f"{key} {name}": optimizer.state[p][key].contiguous() for key in ("exp_avg", "exp_avg_sq")}
    header = {"step": str(step), "asked": asked}
    with staged(state) as part:
        save_file(tensors, part, metadata=header)


def _resume(state: Path, asked: str, trained: dict[str, nn.Parameter], optimizer: Any) -> int:
    """Steps that an interrupted run of the same settings, from the same weights, has done; 0 where there is none."""
    from safetensors import safe_open

    if not state.is_file():
        return 0
    try:
        with safe_open(state, framework="pt") as file:
            header, names = file.metadata(), set(file.keys())
            if header.get("asked") != asked or not all(f"weight {name}" in names for name in trained):
                return 0
            step = int(header["step"])
            for name, p in trained.items():
                p.data.copy_(file.get_tensor(f"weight {name}"))
                moments = {key: file.get_tensor(f"{key} {name}") for key in ("exp_avg", "exp_avg_sq")}
                optimizer.state[p] = {"step": torch.tensor(float(step)), **moments}
            return step
    except Exception as error:  # a torn file of a killed run: safetensors raises its own kinds
        raise ExportError(f"{state} cannot be read ({error}); remove it to begin the recovery anew") from error
