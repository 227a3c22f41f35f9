"""Source models: what a vision-language checkpoint or a plain classifier is, and its weights one tensor at a time."""

from edgeprune.models.checkpoint import Checkpoint, open_checkpoint
from edgeprune.models.classifiers.open import Classifier, open_classifier
from edgeprune.models.config.rope import inverse_frequencies
from edgeprune.models.source import resolve_source
from edgeprune.models.spec import ClassifierSpec, ConnectorSpec, DecoderSpec, ModelSpec, RopeSpec, TowerSpec
from edgeprune.models.weights.tensors import Weights

__all__ = [
    "Checkpoint",
    "Classifier",
    "ClassifierSpec",
    "DecoderSpec",
    "ModelSpec",
    "ConnectorSpec",
    "RopeSpec",
    "TowerSpec",
    "Weights",
    "inverse_frequencies",
    "open_checkpoint",
    "open_classifier",
    "resolve_source",
]
