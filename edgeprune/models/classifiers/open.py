"""Open a plain ViT or DeiT image classifier: everything checked, nothing loaded.

Three forms are read: a folder in Hugging Face layout, a timm folder, and one bare safetensors file with timm's names. What differs
from the plain model (a second head, layer scale, pooling over patches) is refused: it would run and answer wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeprune.models.classifiers.config import ARCHITECTURES
from edgeprune.models.classifiers.names import huggingface_parts, timm_parts
from edgeprune.models.classifiers.timm import bare_classifier, timm_classifier
from edgeprune.models.config.processor import classifier_picture
from edgeprune.models.config.section import Section, config_of_folder, refuse_quantised, refuse_text_model
from edgeprune.models.config.structure_key import widths_from_config
from edgeprune.models.source import resolve_source
from edgeprune.models.spec import ClassifierSpec, Width
from edgeprune.models.towers import tower_from_config
from edgeprune.models.weights.shapes import classifier_tensors
from edgeprune.models.weights.shards import tensors_of_folder, unwrapped
from edgeprune.models.weights.stored import DOWNLOAD_AGAIN, stored_tensors
from edgeprune.models.weights.tensors import Weights, checked_weights, require_layers
from edgeprune_runtime.errors import CheckpointError


@dataclass(frozen=True)
class Classifier:
    """A source model: what it is (`spec`) and its `weights`. `path` is the folder or file read, `config` its config.json."""

    path: Path
    spec: ClassifierSpec
    weights: Weights
    config: Mapping[str, Any] = field(default_factory=dict)


def open_classifier(path: str | Path) -> Classifier:
    """Open a Hugging Face folder or hub id, a timm folder, or a bare safetensors file with timm's names.

    A bare file says nothing but its shapes. Taken for granted are then what all plain ViTs of timm have (heads of width 64, layer
    norms with eps 1e-6, exact GELU) and pictures squashed to the tower's size with mean and standard deviation 0.5.
    Raises CheckpointError, in one sentence, for anything not supported.
    """
    file = Path(path)
    if file.is_file():
        return _bare(file, str(path))
    folder = resolve_source(path)
    config = config_of_folder(folder)
    refuse_quantised(config)
    refuse_text_model(config)
    if not config.has("model_type") and config.has("architecture"):
        return _timm(folder, config, str(path))
    return _huggingface(folder, config, str(path))


def _bare(file: Path, source: str) -> Classifier:
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file.name} is no .safetensors file; expected one with timm's names, or a checkpoint's folder; "
            "a pickle can run code when loaded and is never read: convert it once, where you trust it"
        )
    parts = timm_parts(unwrapped(stored_tensors(file)))
    spec = bare_classifier(parts, source)
    weights = checked_weights(classifier_tensors(spec), parts, by="the file's other tensors", repair=DOWNLOAD_AGAIN)
    return Classifier(file, spec, weights)


def _timm(folder: Path, config: Section, source: str) -> Classifier:
    parts = timm_parts(tensors_of_folder(folder))
    spec = timm_classifier(parts, config, source)
    weights = checked_weights(classifier_tensors(spec), parts, by="config.json and the other tensors")
    return Classifier(folder, spec, weights, config.values)


def _huggingface(folder: Path, config: Section, source: str) -> Classifier:
    _require_plain(config)
    tower = tower_from_config(config, tuple(ARCHITECTURES))
    tensors = tensors_of_folder(folder)
    require_layers(config, tower.layers, tensors)
    most = Width(tower.heads, tower.mlp)
    tower = replace(tower, widths=widths_from_config(config, "tower", tower.layers, most))
    labels, classes = _labels(config)
    spec = ClassifierSpec(tower, classes, classifier_picture(folder, tower), labels, source)
    parts = huggingface_parts(tensors)
    return Classifier(folder, spec, checked_weights(classifier_tensors(spec), parts), config.values)


def _require_plain(config: Section) -> None:
    kind = config.text("model_type")
    if kind not in ARCHITECTURES:
        raise config.refuse("model_type", f"one of {', '.join(ARCHITECTURES)}, the classifiers that edgeprune knows")
    if config.values.get("architectures") != [ARCHITECTURES[kind]]:
        raise config.refuse(
            "architectures", f"[{ARCHITECTURES[kind]!r}] (a classifier with one head on the class token)"
        )
    heads = config.integer("num_attention_heads", 12)
    hidden = config.integer("hidden_size", 768)
    if config.has("head_dim") and config.integer("head_dim") * heads != hidden:
        raise config.refuse("head_dim", f"hidden_size / num_attention_heads = {hidden} / {heads}")


def _labels(config: Section) -> tuple[tuple[str, ...] | None, int]:
    """Names of the classes, unless they are transformers' place holders, and how many there are (2 if nothing is said)."""
    if not config.has("id2label"):
        return None, config.integer("num_labels", 2)
    table = config.section("id2label").values
    names = tuple(table.get(str(i)) for i in range(len(table)))
    if not names or not all(isinstance(name, str) for name in names):
        raise config.refuse("id2label", 'a name for each class, under "0", "1" and so on')
    plain = tuple(f"LABEL_{i}" for i in range(len(table)))
    return (None if names == plain else tuple(str(name) for name in names)), len(table)
