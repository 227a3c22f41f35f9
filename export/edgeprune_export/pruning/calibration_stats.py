"""Run the calibration samples through the unpruned model and listen."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgeprune.structure.plan import ModelPart
from edgeprune.structure.sites import block_lists, sites
from edgeprune.structure.statistics import Need, Statistics, StatisticsCollector
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


def collect_statistics(subject: PrunableModel, needs: Iterable[Need], track: Track) -> Statistics:
    """What the importances need, in one pass; a pass with gradients costs about three times one without."""
    needs = frozenset(needs)
    listener = StatisticsCollector(
        sites(subject.module, subject.specs), head_dims(subject.specs), needs, activations_of(subject.specs)
    )
    if not needs:
        return listener.statistics
    with track("calibrating", batch_count(subject)) as advance:
        for batch in batches(subject):
            with listener.listening(subject.module, batch.samples):
                _forward(subject, batch, listener, "gradients" in needs)
            if "visual" in needs:
                _look(subject, batch, listener.statistics)
            advance()
    return listener.statistics


def _forward(subject: PrunableModel, batch: Batch, listener: StatisticsCollector, gradients: bool) -> None:
    if not gradients:
        with torch.no_grad():
            subject.logits(subject.module, batch)
        return
    # Parameters need no gradient, the pixels do: so every activation after them has one.
    batch.inputs["pixel_values"].requires_grad_(True)
    loss_of(subject.logits(subject.module, batch), batch).backward()  # type: ignore[no-untyped-call]
    listener.after_backward()


@torch.no_grad()
def _look(subject: PrunableModel, batch: Batch, statistics: Statistics) -> None:
    """Visual readings of the language model's heads and layers."""
    heads = {s.block: s for s in sites(subject.module, subject.specs) if (s.part, s.kind) == ("language", "heads")}
    for layer, (rows, visual) in enumerate(subject.attention(batch)):
        mass = rows[:, visual].double().sum(dim=1)
        other = rows[:, ~visual].double().sum(dim=1)
        statistics.block("language", layer).visual.append(float(mass.mean()))
        statistics.of(heads[layer]).visual.append(mass / other)


@torch.no_grad()
def removal_losses(subject: PrunableModel, part: ModelPart, track: Track) -> list[float]:
    """Per block of a part: mean over samples of KL(p || q) at the last position, p whole, q without the block."""
    spec, blocks = subject.specs[part]
    _, modules = block_lists(subject.module)[part]
    totals = torch.zeros(blocks, dtype=torch.float64)
    samples = 0
    with track(f"leaving out blocks of the {part}", batch_count(subject)) as advance:
        for batch in batches(subject):
            whole = _last(subject, subject.module, batch)
            for i in range(blocks):
                with _without(modules[i]):
                    totals[i] += divergence(whole, _last(subject, subject.module, batch))
            samples += batch.samples
            advance()
    return (totals / samples).tolist()


def divergence(whole: Tensor, without: Tensor) -> float:
    """Sum over rows of KL(softmax(whole) || softmax(without)), in nats. [rows, classes] each."""
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (whole, without))
    return float((p.exp() * (p - q)).sum())


def _last(subject: PrunableModel, module: nn.Module, batch: Batch) -> Tensor:
    logits = subject.logits(module, batch)
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
