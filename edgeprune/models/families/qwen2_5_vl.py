"""Qwen2.5-VL, and what is made of it (Cosmos-Reason1, UI-TARS): windows in most blocks of the tower."""

from __future__ import annotations

from edgeprune.models.families import qwen_vl
from edgeprune.models.towers.qwen_vit import QWEN2_5_VIT

QWEN2_5_VL = qwen_vl.family("qwen2_5_vl", "Qwen2.5-VL", QWEN2_5_VIT, "rms", "out_hidden_size", "pixels")
