"""DINOv2's vision tower: a scale on each branch, and in the largest a gated MLP."""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.spec import TowerSpec
from edgeprune.models.towers.base import TowerDefaults, TowerKind, activation, plain_tower
from edgeprune.models.towers.vit import VIT

_DEFAULTS = TowerDefaults("dinov2", 14, "gelu", 1e-6, prefix_tokens=1)


def read(vision: Section) -> TowerSpec:
    """vision_config of model type dinov2."""
    swiglu = vision.flag("use_swiglu_ffn", False)
    mlp = int(vision.integer("hidden_size", 768) * vision.number("mlp_ratio", 4))
    return plain_tower(
        vision,
        _DEFAULTS,
        # The gated MLP keeps two thirds of the width, rounded up to a multiple of 8.
        mlp=(int(mlp * 2 / 3) + 7) // 8 * 8 if swiglu else mlp,
        activation="silu" if swiglu else activation(vision, "hidden_act", "gelu"),
        qkv_bias=vision.flag("qkv_bias", True),
        layer_scale=True,
        swiglu=swiglu,
    )


DINOV2 = TowerKind(
    "dinov2",
    read,
    {
        **VIT.names,
        "norm1": "norm1",
        "norm2": "norm2",
        "mlp.weights_in": "fc_in",
        "mlp.gate_proj": "fc_gate",
        "mlp.up_proj": "fc_up",
        "mlp.weights_out": "fc_out",
        "mlp.down_proj": "fc_out",
        "layer_scale1": "scale1",
        "layer_scale2": "scale2",
    },
)
