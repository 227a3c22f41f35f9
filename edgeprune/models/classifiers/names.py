"""Weight names of plain classifiers: transformers' and timm's spellings, and edgeprune's own.

transformers' names are those of a LLaVA tower (see names.py) behind "vit." or "deit.", and a final norm and a head that LLaVA has
not. timm stores queries, keys and values as one tensor; its thirds become three tensors without a byte being read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeprune.models.weights.names import canonical_name
from edgeprune.models.weights.stored import DOWNLOAD_AGAIN, StoredTensor
from edgeprune.models.weights.tensors import Parts
from edgeprune_runtime.errors import CheckpointError

_TAIL = re.compile(r"^(?:vit|deit)\.layernorm\.(weight|bias)$")
_TIMM = (
    (re.compile(r"^cls_token$"), "tower.class_token"),
    (re.compile(r"^pos_embed$"), "tower.position"),
    (re.compile(r"^patch_embed\.proj\.(weight|bias)$"), r"tower.patch.\1"),
    (re.compile(r"^blocks\.(\d+)\.(norm[12]|attn\.qkv)\.(weight|bias)$"), r"tower.\1.\2.\3"),
    (re.compile(r"^blocks\.(\d+)\.attn\.proj\.(weight|bias)$"), r"tower.\1.o.\2"),
    (re.compile(r"^blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)$"), r"tower.\1.\2.\3"),
    (re.compile(r"^norm\.(weight|bias)$"), r"tower.norm.\1"),
    (re.compile(r"^head\.(weight|bias)$"), r"classifier.\1"),
)
#: What a ViT may have beyond the plain one, for the message.
_BEYOND = (
    (
        re.compile(r"dist_token|head_dist|distillation_classifier|cls_classifier"),
        "a distillation token with a head of its own",
    ),
    (re.compile(r"reg_token|register_tokens"), "register tokens"),
    (re.compile(r"\.(ls[12]|gamma_[12])(\.|$)"), "layer scale"),
    (re.compile(r"^norm_pre\."), "a norm before the first block"),
    (re.compile(r"[qk]_norm\."), "normed queries and keys"),
    (re.compile(r"^(fc_norm|attn_pool)\."), "pooling over patches instead of the class token"),
    (
        re.compile(r"^(vit|deit)\.embeddings\.|^classifier\."),
        "transformers' name; such a file needs its config.json: give the folder",
    ),
    (
        re.compile(r"^(cls_token|pos_embed|blocks\.|head\.)"),
        "timm's name; a timm folder has a config.json with an architecture",
    ),
)


def from_huggingface(name: str) -> str | None:
    """Our name of a tensor of transformers' classifiers; "" if it is never needed; None if it is not known."""
    if name.startswith("classifier."):
        return name if name in ("classifier.weight", "classifier.bias") else None
    if found := _TAIL.match(name):
        return f"tower.norm.{found[1]}"
    inner = re.sub(r"^(vit|deit)\.", "vision_tower.", name)
    return canonical_name(inner) if inner != name else None


def huggingface_parts(tensors: Mapping[str, StoredTensor]) -> dict[str, Parts]:
    """Tensors of a transformers classifier under our names."""
    found: dict[str, StoredTensor] = {}
    for source, tensor in tensors.items():
        name = from_huggingface(source)
        if name is None:
            raise _unknown(source)
        if name in found:
            raise CheckpointError(
                f"the weights hold both {found[name].name} and {source} for {name}; expected one of them; {DOWNLOAD_AGAIN}"
            )
        if name:
            found[name] = tensor
    return {name: (tensor,) for name, tensor in found.items()}


def timm_parts(tensors: Mapping[str, StoredTensor]) -> dict[str, Parts]:
    """Tensors of a timm classifier under our names; joint queries, keys and values as three."""
    found: dict[str, Parts] = {}
    for source, tensor in tensors.items():
        name = next((pattern.sub(ours, source) for pattern, ours in _TIMM if pattern.match(source)), None)
        if name is None:
            raise _unknown(source)
        if ".attn.qkv." in name:
            if tensor.is_float and (not tensor.shape or tensor.shape[0] % 3):
                raise CheckpointError(
                    f"{source} has shape {list(tensor.shape)}; expected queries, keys and values of equal size; {DOWNLOAD_AGAIN}"
                )
            thirds = tensor.thirds() if tensor.is_float else (tensor,) * 3  # another kind is refused with the rest
            found |= {name.replace("attn.qkv", part): (third,) for part, third in zip("qkv", thirds, strict=True)}
        else:
            found[name] = (tensor,)
    return found


def _unknown(source: str) -> CheckpointError:
    what = next((f" ({text})" for pattern, text in _BEYOND if pattern.search(source)), "")
    return CheckpointError(
        f"the weights hold {source}{what}, which is no part of a classifier that edgeprune supports; "
        "expected a plain ViT or DeiT with a class token and one head; choose such a checkpoint"
    )
