"""Our rotary frequencies are transformers' own, for every spelling of every scaling that is supported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from edgeprune.models import inverse_frequencies
from edgeprune.models.config.rope import rope_from_config
from edgeprune.models.config.section import Section
from edgeprune_runtime.errors import CheckpointError

CLASSES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaRotaryEmbedding),
    "mistral": (MistralConfig, MistralRotaryEmbedding),
    "qwen2": (Qwen2Config, Qwen2RotaryEmbedding),
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
YARN = {"factor": 4.0, "original_max_position_embeddings": 1024}
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "old theta": {"rope_theta": 1000000.0},
    "new theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "old linear": {"rope_theta": 20000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "new linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3}},
    "old llama3": {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "new llama3": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}},
    "old yarn": {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", **YARN}},
    "new yarn": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN}},
    "yarn without a length": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    "yarn with ramps": {
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN, "beta_fast": 16, "beta_slow": 2}
    },
    "yarn not truncated": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN, "truncate": False}},
    "yarn with a temperature": {
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN, "attention_factor": 1.7}
    },
    "yarn with scales": {
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN, "mscale": 1.2, "mscale_all_dim": 0.8}
    },
    "both spellings": {
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 3e4},
    },
}


@pytest.mark.parametrize("decoder", CLASSES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_frequencies_equal_transformers(decoder: str, setting: str) -> None:
    make_config, make_rotary = CLASSES[decoder]
    given = SETTINGS[setting]
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096}
    rotary = make_rotary(
        make_config(**sizes, **{key: dict(v) if isinstance(v, dict) else v for key, v in given.items()})
    )
    frequencies, scaling = inverse_frequencies(rope_from_config(Section("text_config", given), 4096), 64)
    assert frequencies.shape == (32,)
    assert frequencies.dtype == np.float32
    np.testing.assert_allclose(frequencies, rotary.inv_freq.numpy(), rtol=3e-7)
    assert scaling == pytest.approx(rotary.attention_scaling, rel=1e-12)


@pytest.mark.parametrize("head_dim", [2, 6, 80, 128])
def test_any_even_head_width_has_frequencies(head_dim: int) -> None:
    config = LlamaConfig(hidden_size=256, num_attention_heads=2, head_dim=head_dim)
    frequencies, _ = inverse_frequencies(rope_from_config(Section("text_config", {}), 4096), head_dim)
    expected, _ = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    np.testing.assert_allclose(frequencies, torch.as_tensor(expected).numpy(), rtol=3e-7)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "of type 'dynamic'"),
    "longrope": ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1]}}, "of type 'longrope'"),
    "unknown": ({"rope_parameters": {"rope_type": "spiral"}}, "of type 'spiral'"),
    "multimodal": ({"rope_scaling": {"type": "mrope", "mrope_section": [8, 4, 4]}}, "mrope"),
    "multimodal default": ({"rope_parameters": {"rope_type": "default", "mrope_section": [8, 4, 4]}}, "mrope"),
    "partial": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    "partial inside": ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor is 0.25"),
    "by layer": ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "layer types"),
    "no factor": ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
    "text factor": ({"rope_scaling": {"type": "yarn", "factor": "four"}}, "factor is 'four'"),
    "llama3 incomplete": ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
    "negative theta": ({"rope_theta": -1.0}, "rope_theta is -1.0"),
    "not an object": ({"rope_scaling": [2]}, "expected an object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_rotary_embeddings_are_refused(case: str) -> None:
    given, fragment = REFUSED[case]
    with pytest.raises(CheckpointError) as caught:
        rope_from_config(Section("config.json.text_config", given), 4096)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
