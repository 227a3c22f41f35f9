"""What the readers of language models share: a pre-norm causal decoder with rotary positions and a gated MLP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeprune.models.config.rope import DEFAULT_THETA, rope_from_config
from edgeprune.models.config.section import Section
from edgeprune.models.spec import DecoderSpec
from edgeprune.models.towers.base import ACTIVATIONS
from edgeprune_runtime.errors import CheckpointError

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class DecoderKind:
    """A kind of language model: its `model_type` in text_config, how that becomes a DecoderSpec, and what a key means that the file
    leaves out (hub files often leave out all that equals the class default)."""

    name: str
    traits: Callable[[Section], dict[str, Any]]
    vocab: int
    mlp: int
    kv_heads: int | None
    max_positions: int
    bos: int | None
    eos: int | None
    head_dim: int | None = None
    eps: float = 1e-6
    theta: float = DEFAULT_THETA
    sections: tuple[int, int, int] | None = None  # pairs of a head by axis, where positions have three

    def read(self, text: Section, *, tied: bool) -> DecoderSpec:
        """Describe it. Raises CheckpointError, in one sentence, for what has no graph."""
        for key in _EXPERTS:
            if text.has(key) and text.integer(key, least=0) > 0:
                raise text.refuse(key, "no experts (a dense MLP in every layer)")
        hidden, heads = text.integer("hidden_size", 4096), text.integer("num_attention_heads", 32)
        head_dim = _head_dim(text, hidden, heads, self.head_dim)
        kv_heads = text.optional_integer("num_key_value_heads", self.kv_heads, least=1) or heads
        if heads % kv_heads:
            raise text.refuse("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
        if ACTIVATIONS.get(text.text("hidden_act", "silu")) != "silu":
            raise text.refuse("hidden_act", "'silu'")
        max_positions = text.integer("max_position_embeddings", self.max_positions)
        values: dict[str, Any] = {
            "kind": self.name,
            "layers": text.integer("num_hidden_layers", 32),
            "hidden": hidden,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "mlp": text.integer("intermediate_size", self.mlp),
            "vocab": text.integer("vocab_size", self.vocab),
            "eps": text.number("rms_norm_eps", self.eps),
            "activation": "silu",
            "tied": tied,
            "rope": rope_from_config(text, max_positions, theta=self.theta, sections=self.sections is not None),
            "max_positions": max_positions,
        }
        return DecoderSpec(**{**values, **self.traits(text)})


def _head_dim(text: Section, hidden: int, heads: int, default: int | None) -> int:
    width = text.optional_integer("head_dim", default, least=1)
    if width is None:
        if hidden % heads:
            raise text.refuse("hidden_size", f"a multiple of num_attention_heads = {heads}, or a head_dim beside it")
        width = hidden // heads
    if width % 8:
        raise CheckpointError(
            f"{text.where}: heads are {width} wide; expected a multiple of 8, which ONNX Runtime's attention over a cache needs"
        )
    return width


def window_by_layer_types(text: Section) -> int | None:
    """Sliding window of models that have one only where use_sliding_window says so."""
    layers = text.integer("num_hidden_layers", 32)
    types = text.values.get("layer_types")
    if types is None:
        first = text.integer("max_window_layers", 28, least=0)
        types = ["sliding_attention" if i >= first else "full_attention" for i in range(layers)]
        if not text.flag("use_sliding_window", False):
            return None
    if not isinstance(types, list) or len(types) != layers or not set(types) <= {"full_attention", "sliding_attention"}:
        raise text.refuse("layer_types", f"{layers} entries, each 'full_attention' or 'sliding_attention'")
    if "sliding_attention" not in types:
        return None
    if not text.flag("use_sliding_window", False):
        raise text.refuse("use_sliding_window", "true, as layer_types holds 'sliding_attention'")
    return text.integer("sliding_window", 4096)
