"""transformers' own classifier with the weights of any form that `open_classifier` reads: the reference of a classifier's graph.

A pruned classifier has blocks that transformers' configuration cannot describe. Its linear layers get the stored
size before the weights are loaded; the library's attention takes the number of heads from what its projections put out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune.errors import ExportError
from edgeprune.models.classifiers.config import saved_config
from edgeprune.models.classifiers.names import from_huggingface
from edgeprune.models.classifiers.open import Classifier
from edgeprune.models.weights.tensors import Weights
from edgeprune.structure.shrink import resize
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.inside.tower.rows import Rows
from edgeprune_export.gate.eager_cuts import cutting
from edgeprune_export.gate.noted_attention import NAME, register


def classifier_module(classifier: Classifier, attn_implementation: str = "sdpa") -> nn.Module:
    """ViTForImageClassification or DeiTForImageClassification in float32, in evaluation mode."""
    if attn_implementation == NAME:
        register()
    from transformers import AutoConfig, AutoModelForImageClassification

    said = saved_config(classifier.spec)
    config = AutoConfig.for_model(**said)
    with torch.device("meta"):
        model: Any = AutoModelForImageClassification.from_config(
            config, attn_implementation=attn_implementation, dtype=torch.float32
        )
        resize(model, classifier.weights.shapes)
    state = {name: _tensor(classifier.weights, name, value) for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    module: nn.Module = model.eval()
    return module


def cut_logits(module: nn.Module, cuts: TowerCuts, pixels: NDArray[np.float32]) -> torch.Tensor:
    """pixels [1, 3, P, P] -> logits [1, classes] of `classifier_module`'s module with the attention of `noted_attention`, its tower cut."""
    tower: Any = module.base_model
    with cutting(tower, cuts, Rows, last=len(tower.layers) - 1):
        logits: torch.Tensor = module(torch.from_numpy(pixels)).logits
    return logits


def _known(name: str) -> str:
    """Our name of one of transformers' tensors."""
    found = from_huggingface(name)
    if not found:
        raise ExportError(
            f"transformers asks for the tensor {name!r}, which edgeprune does not know; report this model"
        )
    return found


def _tensor(weights: Weights, name: str, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(weights.read(_known(name))).reshape(like.shape)
