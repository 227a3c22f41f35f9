"""transformers' model of a checkpoint, pruned ones included: without memory for its weights, or with all of them loaded.

Weights come through edgeprune's own reader, so a wrong name or shape shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from edgeprune.errors import ExportError
from edgeprune.models.checkpoint import Checkpoint
from edgeprune.models.weights.names import canonical_name, is_later_block
from edgeprune.models.weights.tensors import Weights
from edgeprune.structure.shrink import resize
from edgeprune_export.gate.library import library_errors

_FULL_PRECISION = torch.float32


def empty_model(checkpoint: Checkpoint, *, tower_attention: str, language_attention: str = "sdpa") -> Any:
    """transformers' model in float32 and of the right shapes, whose weights take no memory yet."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForImageTextToText

    with library_errors("a model", checkpoint.path):
        config = AutoConfig.from_pretrained(checkpoint.path)
        config.dtype = _FULL_PRECISION
        for name, value in checkpoint.family.configure(checkpoint.spec.picture).items():
            setattr(config, name, value)
        if hasattr(config.vision_config, "vision_use_head"):
            config.vision_config.vision_use_head = False  # SigLIP's pooling, which never reaches the answer
        attention = {"vision_config": tower_attention, "text_config": language_attention}
        with init_empty_weights(include_buffers=False):
            model: Any = AutoModelForImageTextToText.from_config(
                config, attn_implementation=attention, dtype=_FULL_PRECISION
            )
            resize(model, checkpoint.weights.shapes)
    return model.eval()


def loaded_model(checkpoint: Checkpoint) -> Any:
    """The same with every weight in memory: what calibration and recovery work on. Tower blocks that are not stored are zero."""
    model = empty_model(checkpoint, tower_attention="sdpa")
    weights = streamed(checkpoint, model, deepest=checkpoint.spec.vision.layers)
    model.load_state_dict({name: weights[name] for name in weights}, assign=True, strict=False)
    if checkpoint.spec.language.tied:  # the configuration may say so of two tables that differ
        model.tie_weights()
    return model.requires_grad_(False)


def streamed(checkpoint: Checkpoint, model: Any, deepest: int) -> Mapping[str, torch.Tensor]:
    """Parameters by transformers' names, read when asked for. Tower blocks after `deepest` read as zeros."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    return _Streamed(checkpoint.weights, shapes, deepest)


class _Streamed(Mapping[str, torch.Tensor]):
    """transformers' parameter names over edgeprune's weight reader.

    What comes after the last tower block that anybody reads never reaches the answer and reads as zeros.
    """

    def __init__(self, weights: Weights, shapes: Mapping[str, tuple[int, ...]], deepest: int) -> None:
        self._weights = weights
        self._shapes = shapes
        self._deepest = deepest

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._shapes:  # accelerate asks for companions that quantised weights would have
            raise KeyError(name)
        canonical = canonical_name(name)
        if canonical is None:
            raise ExportError(
                f"transformers asks for the tensor {name!r}, which edgeprune does not know; report this model"
            )
        if canonical == "head.weight" and canonical not in self._weights.shapes:
            canonical = "embed.weight"
        shape = self._shapes[name]
        joined = canonical.replace(".fc_gate.", ".fc_in.").replace(".fc_up.", ".fc_in.").replace(".qkv.", ".q.")
        unread = is_later_block(canonical, self._deepest) or joined not in self._weights.shapes
        if not canonical or (unread and canonical.startswith("tower.")):
            return torch.zeros(shape)
        if ".qkv." in canonical:  # kept apart here, one layer there
            own = [self._weights.read(canonical.replace(".qkv.", f".{part}.")) for part in "qkv"]
            return torch.from_numpy(np.concatenate(own)).reshape(shape)
        for half, number in ((".fc_gate.", 0), (".fc_up.", 1)):  # transformers keeps apart what is stored as one tensor
            if half in canonical:
                return torch.from_numpy(self._weights.read_rows(joined, number * shape[0], (number + 1) * shape[0]))
        return torch.from_numpy(self._weights.read(canonical)).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)
