"""Decoder configurations: Llama, Mistral and Qwen2."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.models.config.rope import rope_from_config
from edgeprune.models.config.section import Section
from edgeprune.models.spec import DecoderKind, DecoderSpec
from edgeprune.models.towers.read import ACTIVATIONS
from edgeprune_runtime.errors import CheckpointError


@dataclass(frozen=True)
class _Defaults:
    """What a key means that the file leaves out (hub files often leave out all that equals the class default)."""

    kind: DecoderKind
    vocab: int
    mlp: int
    kv_heads: int | None
    max_positions: int
    bos: int | None
    eos: int | None


_FAMILIES = {
    "llama": _Defaults("llama", 32000, 11008, None, 2048, 1, 2),
    "mistral": _Defaults("mistral", 32000, 14336, 8, 131072, 1, 2),
    "qwen2": _Defaults("qwen2", 151936, 22016, 32, 32768, None, None),
}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def decoder_from_config(text: Section, *, tied: bool) -> DecoderSpec:
    """Describe the language model of a LLaVA configuration, or refuse it in one sentence."""
    defaults = _defaults(text)
    hidden, heads = text.integer("hidden_size", 4096), text.integer("num_attention_heads", 32)
    head_dim = text.optional_integer("head_dim", least=1)
    if head_dim is None:
        if hidden % heads:
            raise text.refuse("hidden_size", f"a multiple of num_attention_heads = {heads}, or a head_dim beside it")
        head_dim = hidden // heads
    if head_dim % 2:
        raise CheckpointError(
            f"{text.where}: heads are {head_dim} wide; expected an even width, for rotary positions come in pairs"
        )
    kv_heads = text.optional_integer("num_key_value_heads", defaults.kv_heads, least=1) or heads
    if heads % kv_heads:
        raise text.refuse("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    if ACTIVATIONS.get(text.text("hidden_act", "silu")) != "silu":
        raise text.refuse("hidden_act", "'silu'")
    llama, qwen2 = defaults.kind == "llama", defaults.kind == "qwen2"
    layers = text.integer("num_hidden_layers", 32)
    max_positions = text.integer("max_position_embeddings", defaults.max_positions)
    attention_bias = llama and text.flag("attention_bias", False)
    return DecoderSpec(
        kind=defaults.kind,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp=text.integer("intermediate_size", defaults.mlp),
        vocab=text.integer("vocab_size", defaults.vocab),
        eps=text.number("rms_norm_eps", 1e-6),
        activation="silu",
        attention_bias=attention_bias or qwen2,
        output_bias=attention_bias,
        mlp_bias=llama and text.flag("mlp_bias", False),
        tied=tied,
        rope=rope_from_config(text, max_positions),
        sliding_window=_sliding_window(text, defaults.kind, layers),
        max_positions=max_positions,
    )


def default_special_ids(text: Section) -> tuple[int | None, int | None]:
    """(bos, eos) that a decoder family has when no file names them."""
    defaults = _defaults(text)
    return defaults.bos, defaults.eos


def _defaults(text: Section) -> _Defaults:
    kind = text.text("model_type")
    if kind not in _FAMILIES:
        raise CheckpointError(
            f"{text.where}.model_type is {kind!r}; supported decoders are {', '.join(_FAMILIES)}; "
            "choose a checkpoint with one of them"
        )
    for key in _EXPERTS:
        if text.has(key) and text.integer(key, least=0) > 0:
            raise text.refuse(key, "no experts (a dense MLP in every layer)")
    return _FAMILIES[kind]


def _sliding_window(text: Section, kind: DecoderKind, layers: int) -> int | None:
    """Llama has none; Mistral's is on unless null; Qwen2's is on only where use_sliding_window says so."""
    if kind == "llama":
        return None
    if kind == "mistral":
        return text.optional_integer("sliding_window", 4096 if "sliding_window" not in text.values else None, least=1)
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
