"""What pruning works on: a model, where its units are, and batches of samples to run through it.

A vision-language model runs one sample at a time (a picture with its question); a classifier runs many pictures side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edgeprune.structure.plan import ModelPart, StructurePlan
from edgeprune.structure.sites import Specs
from edgeprune_export.pruning.samples import CalibrationSample


@dataclass(frozen=True)
class Batch:
    """Arguments of the model's forward pass for `samples` samples.

    rows    places of the outputs that count, as an index along the last axis but one; None: all of them (a classifier's)
    labels  what they should be; None: the unpruned model's own choice
    """

    samples: int
    inputs: dict[str, Tensor]
    rows: Tensor | None = None
    labels: Tensor | None = None


class PrunableModel(Protocol):
    """A loaded model, and how to run, shrink and write it."""

    module: nn.Module
    specs: Specs

    samples: int  # that there are to calibrate on
    side_by_side: int  # that fit into one batch

    def batch(self, numbers: Sequence[int], random: torch.Generator | None = None) -> Batch:
        """These samples; with `random`, varied as training likes it (crops, flips) where that keeps their meaning."""
        ...

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """Outputs that count: [rows, classes]."""
        ...

    def features(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features that recovery pulls towards the unpruned model's, and the logits."""
        ...

    def attention(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Per layer of the language model: attention [heads, positions] of the last prompt position, and which positions are visual."""
        ...

    def over(self, samples: Sequence[CalibrationSample]) -> PrunableModel:
        """The same model with other samples."""
        ...

    def pruned(self, plan: StructurePlan) -> Specs:
        """What `module` is once the plan is carried out."""
        ...

    def config(self, plan: StructurePlan, smaller: nn.Module) -> dict[str, Any]:
        """config.json of the pruned checkpoint."""
        ...

    def files(self) -> dict[str, Any]:
        """Other JSON files of the pruned checkpoint that the source may lack, by name."""
        ...

    def stored(self, name: str) -> str | None:
        """dtype in which a parameter is kept in the checkpoint; None for one that is not."""
        ...


def batches(prunable: PrunableModel) -> Iterator[Batch]:
    """All samples in order."""
    for start in range(0, prunable.samples, prunable.side_by_side):
        yield prunable.batch(range(start, min(start + prunable.side_by_side, prunable.samples)))


def batch_count(prunable: PrunableModel) -> int:
    return -(-prunable.samples // prunable.side_by_side)


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy against the labels or the model's own choice: summed over samples, averaged over the rows of one."""
    labels = logits.detach().argmax(dim=-1) if batch.labels is None else batch.labels
    return cross_entropy(logits, labels) * batch.samples


def head_dims(specs: Specs) -> dict[ModelPart, int]:
    return {part: spec.head_dim for part, (spec, _) in specs.items()}


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
}


def activations_of(specs: Specs) -> dict[ModelPart, Any]:
    return {part: ACTIVATIONS[spec.activation] for part, (spec, _) in specs.items()}
