"""Language models, one file per lineage: from a configuration to a DecoderSpec, whose values are all that graph code asks.

Adding one is a file with its `DecoderKind` and one line here, or an entry point in the group `edgeprune.decoders`.
"""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.decoders.base import DecoderKind
from edgeprune.models.decoders.llama import LLAMA, MISTRAL
from edgeprune.models.decoders.qwen import QWEN2, QWEN3
from edgeprune.models.decoders.three_axes import QWEN2_5_THREE_AXES, QWEN2_THREE_AXES, QWEN3_THREE_AXES
from edgeprune.models.spec import DecoderSpec
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.registry import Registry

__all__ = ["DECODERS", "DecoderKind", "decoder_from_config", "default_special_ids"]

DECODERS: Registry[DecoderKind] = Registry(
    "language model", group="edgeprune.decoders", kind=DecoderKind, error=CheckpointError
)
for _kind in (LLAMA, MISTRAL, QWEN2, QWEN3, QWEN2_THREE_AXES, QWEN2_5_THREE_AXES, QWEN3_THREE_AXES):
    DECODERS.add(_kind.name, _kind)


def decoder_from_config(text: Section, *, tied: bool) -> DecoderSpec:
    """Describe the language model of a text_config, or refuse it in one sentence."""
    return _kind_of(text).read(text, tied=tied)


def default_special_ids(text: Section) -> tuple[int | None, int | None]:
    """(bos, eos) that a language model has when no file names them."""
    kind = _kind_of(text)
    return kind.bos, kind.eos


def _kind_of(text: Section) -> DecoderKind:
    kind = text.text("model_type")
    if kind not in DECODERS:
        raise CheckpointError(
            f"{text.where}.model_type is {kind!r}; supported decoders are {', '.join(DECODERS)}; "
            "choose a checkpoint with one of them"
        )
    return DECODERS.get(kind)
