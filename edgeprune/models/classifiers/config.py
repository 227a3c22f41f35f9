"""A classifier as files in Hugging Face layout, whatever form it was read from.

What is written here is read back as the same description, and transformers reads it too, a pruned structure excepted.
"""

from __future__ import annotations

from typing import Any

from edgeprune.models.config.structure_key import structure_entry
from edgeprune.models.spec import ClassifierSpec
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.tiling import Single
from edgeprune_runtime.registry import Registry

#: Classes of transformers with one head on the class token, by model type.
ARCHITECTURES: Registry[str] = Registry("classifier architecture", error=CheckpointError)
ARCHITECTURES.add("vit", "ViTForImageClassification")
ARCHITECTURES.add("deit", "DeiTForImageClassification")
_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}


def saved_config(spec: ClassifierSpec) -> dict[str, Any]:
    """config.json of this classifier; sizes are those of the source, and what pruning left is under "edgeprune"."""
    tower = spec.vision
    labels = spec.labels or tuple(f"LABEL_{i}" for i in range(spec.classes))
    return {
        "architectures": [ARCHITECTURES[tower.kind]],
        "model_type": tower.kind,
        "hidden_size": tower.hidden,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp,
        "hidden_act": _ACTIVATIONS.get(tower.activation, tower.activation),
        "layer_norm_eps": tower.eps,
        "image_size": tower.image_px,
        "patch_size": tower.patch_px,
        "num_channels": 3,
        "qkv_bias": tower.qkv_bias,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        **structure_entry({"tower": tower.widths}),
    }


def saved_processor(spec: ClassifierSpec) -> dict[str, Any]:
    """preprocessor_config.json of this classifier."""
    view, rule = spec.picture.tile, spec.picture.tiling
    assert isinstance(rule, Single)  # a classifier looks at one tile
    exact = rule.resize_exact
    size = {"height": exact[0], "width": exact[1]} if exact else {"shortest_edge": rule.resize_shortest}
    tile = {"height": view.px, "width": view.px}
    return {
        # DeiT's processor crops, CLIP's also knows a shortest edge, ViT's only squashes.
        "image_processor_type": f"{'CLIP' if not exact else 'ViT' if size == tile else 'DeiT'}ImageProcessor",
        "do_resize": True,
        "size": size,
        "do_center_crop": size != tile,
        "crop_size": tile,
        "resample": view.resample,
        "do_rescale": True,
        "rescale_factor": view.rescale,
        "do_normalize": True,
        "image_mean": list(view.mean),
        "image_std": list(view.std),
    }
