"""transformers' own classifier with the weights of any form that `open_classifier` reads: the reference of a classifier's graph.

A pruned classifier has blocks that transformers' configuration cannot describe. Its linear layers get the stored
size before the weights are loaded; the library's attention takes the number of heads from what its projections put out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgeprune.errors import ExportError
from edgeprune.models.classifiers.config import saved_config
from edgeprune.models.classifiers.names import from_huggingface
from edgeprune.models.classifiers.open import Classifier
from edgeprune.models.weights.tensors import Weights
from edgeprune.structure.shrink import resize


def classifier_module(classifier: Classifier, attn_implementation: str = "sdpa") -> nn.Module:
    """ViTForImageClassification or DeiTForImageClassification in float32, in evaluation mode."""
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
