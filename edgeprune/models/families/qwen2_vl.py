"""Qwen2-VL: full attention in all blocks of the tower."""

from __future__ import annotations

from edgeprune.models.families import qwen_vl
from edgeprune.models.towers.qwen_vit import QWEN2_VIT

QWEN2_VL = qwen_vl.family("qwen2_vl", "Qwen2-VL", QWEN2_VIT, "layer", "hidden_size", "thousandths")
