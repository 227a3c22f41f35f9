"""A small byte-pair tokenizer with the special tokens and the splitting rules of a family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from .recipe import Recipe
from .text import WORDS

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Specials:
    """The special tokens of a family, each once in the vocabulary.

    `first` have the lowest ids and `last` the highest, as in published tokenizers. `roles` says which are bos, eos, pad
    and unk; `named` are further attributes of the tokenizer. `image`: the placeholder; `stop`: what config.json calls
    the end, where generation_config.json has another token for it; `also`: what else it names.
    """

    first: tuple[str, ...]
    last: tuple[str, ...]
    roles: dict[str, str]
    image: str
    stop: str
    named: dict[str, str] = field(default_factory=dict)
    split: Literal["qwen", "smollm"] = "qwen"
    also: dict[str, str] = field(default_factory=dict)


def build_byte_pairs(recipe: Recipe, specials: Specials) -> PreTrainedTokenizerFast:
    """Bytes, and merges that make words and two line ends one token each; with `recipe.tokenizer` "bytes", no merges.

    Joined line ends matter: pieces of text on both sides of a seam may become one token.
    """
    merges = [] if recipe.tokenizer == "bytes" else list(dict.fromkeys(_merges()))
    pieces = [*specials.first, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    inner = Tokenizer(models.BPE({piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, merges))
    if specials.split == "qwen":
        inner.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_QWEN), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    else:
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([*specials.first, *specials.last])
    if recipe.bos == "tokenizer" and "bos" in specials.roles:
        bos = specials.roles["bos"]
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    make: Any = PreTrainedTokenizerFast  # transformers' constructors are not annotated
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=inner,
        **{f"{role}_token": token for role, token in specials.roles.items()},
        extra_special_tokens=specials.named,
        padding_side="left",
    )
    return tokenizer


def family_ids(tokenizer: PreTrainedTokenizerFast, specials: Specials) -> dict[str, int]:
    """The ids that config.json names; Qwen's configurations call the padding the first token, which nobody writes."""
    ids, roles = tokenizer.get_vocab(), specials.roles
    named = {"bos": roles.get("bos", roles["pad"]), "eos": specials.stop, "pad": roles["pad"], "image": specials.image}
    named |= specials.also
    if "video_token" in specials.named:
        named["video"] = specials.named["video_token"]
    return {name: ids[token] for name, token in named.items()}


def _merges() -> Iterator[tuple[str, str]]:
    line_end, space = "\N{LATIN CAPITAL LETTER C WITH DOT ABOVE}", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
    yield line_end, line_end
    for word in WORDS:
        yield from ((word[:length], word[length]) for length in range(1, len(word)))
    for word in WORDS:
        yield space, word
