"""Qwen3-VL, and what is made of it (Cosmos-Reason2): features of early tower blocks enter behind the first decoder layers."""

from __future__ import annotations

from edgeprune.models.families import qwen_vl
from edgeprune.models.towers.qwen_vit import QWEN3_VIT

QWEN3_VL = qwen_vl.family("qwen3_vl", "Qwen3-VL", QWEN3_VIT, "layer", "out_hidden_size", "thousandths", deepstack=True)
