"""Which tensors a model needs: our names with their shapes, in the order in which a forward pass meets them."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.models.spec import ClassifierSpec, ConnectorSpec, DecoderSpec, DeepstackSpec, TowerSpec

TensorShape = tuple[int, ...]
#: Tokens in front of the patches; a tower has the first `prefix_tokens` of them.
PREFIX = ("tower.class_token", "tower.distillation_token")


def needed_tensors(
    vision: TowerSpec,
    connector: ConnectorSpec,
    language: DecoderSpec,
    feature_layer: int,
    learned: str | None,
    deepstack: Sequence[DeepstackSpec] = (),
) -> dict[str, TensorShape]:
    """Name -> shape of every tensor up to the logits; the tower ends with the feature layer. learned: a learned row [D]."""
    return {
        **_tower(vision, feature_layer + 1),
        **(_norm("tower.norm", vision.hidden, vision.norm) if vision.final_norm else {}),
        **_connector("connector", connector),
        **{k: v for i, deep in enumerate(deepstack) for k, v in _connector(f"deepstack.{i}", deep.connector).items()},
        **({learned: (language.hidden,)} if learned else {}),
        **_language(language),
    }


def classifier_tensors(spec: ClassifierSpec) -> dict[str, TensorShape]:
    """Name -> shape of every tensor of a classifier: the whole tower, its final norm and the head."""
    return {
        **_tower(spec.vision, spec.vision.layers),
        **_norm("tower.norm", spec.vision.hidden, spec.vision.norm),
        **_linear("classifier", spec.classes, spec.vision.hidden, True),
    }


def later_tensors(vision: TowerSpec, feature_layer: int) -> dict[str, TensorShape]:
    """Name -> shape of the tower's tensors after the feature layer, which only some methods read."""
    blocks = (tower_block(f"tower.{i}", vision.at(i)) for i in range(feature_layer + 1, vision.layers))
    return {name: shape for block in blocks for name, shape in block.items()}


def _linear(name: str, outputs: int, inputs: int, bias: bool) -> dict[str, TensorShape]:
    weight: dict[str, TensorShape] = {f"{name}.weight": (outputs, inputs)}
    return {**weight, f"{name}.bias": (outputs,)} if bias else weight


def _norm(name: str, width: int, kind: str = "layer") -> dict[str, TensorShape]:
    """A layer norm has a bias, an RMS norm has none."""
    weight: dict[str, TensorShape] = {f"{name}.weight": (width,)}
    return {**weight, f"{name}.bias": (width,)} if kind == "layer" else weight


def _connector(name: str, spec: ConnectorSpec) -> dict[str, TensorShape]:
    shapes: dict[str, TensorShape] = {}
    if spec.norm is not None:
        shapes |= _norm(f"{name}.norm", spec.merged if spec.norm == "after" else spec.inputs, spec.norm_kind)
    if spec.layers == 1:
        return shapes | _linear(f"{name}.1", spec.outputs, spec.merged, spec.bias)
    shapes |= _linear(f"{name}.1", spec.middle, spec.merged, spec.bias)
    return shapes | _linear(f"{name}.2", spec.outputs, spec.middle, spec.bias)


def _tower(spec: TowerSpec, blocks: int) -> dict[str, TensorShape]:
    width = spec.hidden
    shapes: dict[str, TensorShape] = dict.fromkeys(PREFIX[: spec.prefix_tokens], (width,))
    if spec.table != 0:
        shapes["tower.position"] = (spec.positions if spec.table is None else spec.table**2, width)
    kernel = (spec.patch_px, spec.patch_px)
    shapes["tower.patch.weight"] = (width, 3, *((spec.frames,) if spec.frames > 1 else ()), *kernel)
    if spec.patch_bias:
        shapes["tower.patch.bias"] = (width,)
    if spec.pre_norm:
        shapes |= _norm("tower.pre_norm", width, spec.norm)
    for i in range(blocks):
        shapes |= tower_block(f"tower.{i}", spec.at(i))
    return shapes


def tower_block(name: str, spec: TowerSpec) -> dict[str, TensorShape]:
    """Tensors of one block, `spec` being the tower as that block sees it."""
    width, inner = spec.hidden, spec.inner
    shapes = _norm(f"{name}.norm1", width, spec.norm)
    for part in "qkv":
        shapes |= _linear(f"{name}.{part}", inner, width, spec.qkv_bias)
    shapes |= _linear(f"{name}.o", width, inner, True)
    if spec.layer_scale:
        shapes[f"{name}.scale1"] = (width,)
    shapes |= _norm(f"{name}.norm2", width, spec.norm)
    if spec.swiglu:
        shapes |= _linear(f"{name}.fc_in", 2 * spec.mlp, width, True)  # gate rows, then up rows
        shapes |= _linear(f"{name}.fc_out", width, spec.mlp, True)
    else:
        shapes |= _linear(f"{name}.fc1", spec.mlp, width, True)
        shapes |= _linear(f"{name}.fc2", width, spec.mlp, True)
    if spec.layer_scale:
        shapes[f"{name}.scale2"] = (width,)
    return shapes


def _language(spec: DecoderSpec) -> dict[str, TensorShape]:
    width = spec.hidden
    shapes: dict[str, TensorShape] = {"embed.weight": (spec.vocab, width)}
    for i in range(spec.layers):
        shapes |= language_layer(f"layers.{i}", spec.at(i))
    shapes["norm.weight"] = (width,)
    return shapes if spec.tied else {**shapes, "head.weight": (spec.vocab, width)}


def language_layer(name: str, spec: DecoderSpec) -> dict[str, TensorShape]:
    """Tensors of one decoder layer, `spec` being the decoder as that layer sees it."""
    width = spec.hidden
    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    return {
        f"{name}.norm1.weight": (width,),
        **_linear(f"{name}.q", queries, width, spec.attention_bias),
        **_linear(f"{name}.k", keys, width, spec.attention_bias),
        **({f"{name}.{part}_norm.weight": (spec.head_dim,) for part in "qk"} if spec.qk_norm else {}),
        **_linear(f"{name}.v", keys, width, spec.attention_bias),
        **_linear(f"{name}.o", width, queries, spec.output_bias),
        f"{name}.norm2.weight": (width,),
        **_linear(f"{name}.gate", spec.mlp, width, spec.mlp_bias),
        **_linear(f"{name}.up", spec.mlp, width, spec.mlp_bias),
        **_linear(f"{name}.down", width, spec.mlp, spec.mlp_bias),
    }
