"""Run the calibration samples through the unpruned model and collect statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgeprune.structure.plan import ModelPart
from edgeprune.structure.sites import block_lists, sites
from edgeprune.structure.statistics import StatisticNeed, Statistics, StatisticsCollector
from edgeprune_export.bundle.progress import Track
from edgeprune_export.pruning.prunable import (
    Batch,
    PrunableModel,
    activations_of,
    batch_count,
    batches,
    head_dims,
    loss_of,
)


def collect_statistics(prunable: PrunableModel, needs: Iterable[StatisticNeed], track: Track) -> Statistics:
    """What the importances need, in one pass; a pass with gradients costs about three times one without."""
    needs = frozenset(needs)
    collector = StatisticsCollector(
        sites(prunable.module, prunable.specs), head_dims(prunable.specs), needs, activations_of(prunable.specs)
    )
    if not needs:
        return collector.statistics
    with track("calibrating", batch_count(prunable)) as advance:
        for batch in batches(prunable):
            with collector.collecting(prunable.module, batch.samples):
                _forward(prunable, batch, collector, "gradients" in needs)
            if "visual" in needs:
                _look(prunable, batch, collector.statistics)
            advance()
    return collector.statistics


def _forward(prunable: PrunableModel, batch: Batch, collector: StatisticsCollector, gradients: bool) -> None:
    if not gradients:
        with torch.no_grad():
            prunable.logits(prunable.module, batch)
        return
    # Parameters need no gradient, the pixels do: so every activation after them has one.
    batch.inputs["pixel_values"].requires_grad_(True)
    loss_of(prunable.logits(prunable.module, batch), batch).backward()  # type: ignore[no-untyped-call]
    collector.after_backward()


@torch.no_grad()
def _look(prunable: PrunableModel, batch: Batch, statistics: Statistics) -> None:
    """Visual readings of the language model's heads and layers."""
    heads = {s.block: s for s in sites(prunable.module, prunable.specs) if (s.part, s.kind) == ("language", "heads")}
    for layer, (rows, visual) in enumerate(prunable.attention(batch)):
        mass = rows[:, visual].double().sum(dim=1)
        other = rows[:, ~visual].double().sum(dim=1)
        statistics.block("language", layer).visual.append(float(mass.mean()))
        statistics.of(heads[layer]).visual.append(mass / other)


@torch.no_grad()
def removal_losses(prunable: PrunableModel, part: ModelPart, track: Track) -> list[float]:
    """Per block of a part: mean over samples of KL(p || q) at the last position, p whole, q without the block."""
    spec, blocks = prunable.specs[part]
    _, modules = block_lists(prunable.module)[part]
    totals = torch.zeros(blocks, dtype=torch.float64)
    samples = 0
    with track(f"leaving out blocks of the {part}", batch_count(prunable)) as advance:
        for batch in batches(prunable):
            whole = _last(prunable, prunable.module, batch)
            for i in range(blocks):
                with _without(modules[i]):
                    totals[i] += divergence(whole, _last(prunable, prunable.module, batch))
            samples += batch.samples
            advance()
    return (totals / samples).tolist()


def divergence(whole: Tensor, without: Tensor) -> float:
    """Sum over rows of KL(softmax(whole) || softmax(without)), in nats. [rows, classes] each."""
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (whole, without))
    return float((p.exp() * (p - q)).sum())


def _last(prunable: PrunableModel, module: nn.Module, batch: Batch) -> Tensor:
    logits = prunable.logits(module, batch)
    return logits if batch.rows is None else logits[:1]


class _without:
    """A block hands on what it was given, inside."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block

    def __enter__(self) -> None:
        def skip(module: nn.Module, inputs: tuple[object, ...], kwargs: dict[str, object], output: object) -> object:
            before = inputs[0] if inputs else kwargs["hidden_states"]
            return (before, *output[1:]) if isinstance(output, tuple) else before

        # Before the hooks by which transformers notes hidden states: the feature layer is read from there.
        self._hook = self._block.register_forward_hook(skip, with_kwargs=True, prepend=True)

    def __exit__(self, *error: object) -> None:
        self._hook.remove()
