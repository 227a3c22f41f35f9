"""SmolVLM and SmolVLM2 on still pictures: Idefics3's shape, in small."""

from __future__ import annotations

from edgeprune.models.families import idefics3

SMOLVLM = idefics3.family("smolvlm", "SmolVLM", "SmolVLMImageProcessor", 128257)
