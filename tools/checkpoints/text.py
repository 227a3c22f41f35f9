"""A small word-level tokenizer, its chat template, and the processor around them."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlavaNextProcessor, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from .recipe import Recipe

SPECIALS = {
    "pad": "<pad>",
    "unk": "<unk>",
    "bos": "<s>",
    "eos": "</s>",
    "image": "<image>",
    "user": "<|user|>",
    "assistant": "<|assistant|>",
}
_WORDS = (
    "what is the number word colour shape of in how many are there a an and to left right top bottom picture image",
    "red green blue yellow orange purple white black circle square triangle star cross ring yes no none small large",
    "text say read describe it you see this that on at with one two three four five six",
)
WORDS = tuple(word for line in _WORDS for word in line.split())
_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|user|>' if message['role'] == 'user' else '<|assistant|>' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{%- endfor -%}{%- endif -%}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def chat_template(recipe: Recipe) -> str:
    """The template; it writes the first token itself when the tokenizer does not."""
    return ("{{ bos_token }}" if recipe.bos == "template" else "") + _TEMPLATE


def build_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Words, letters and digits (about 130 tokens), or single bytes; the special tokens have the same ids in both."""
    inner = _byte_tokenizer() if recipe.tokenizer == "bytes" else _word_tokenizer()
    # Registered here: transformers 5.23 ignores additional_special_tokens, and <|user|> would fall apart.
    inner.add_special_tokens(list(SPECIALS.values()))
    if recipe.bos == "tokenizer":
        bos = SPECIALS["bos"]
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    make: Any = PreTrainedTokenizerFast  # transformers' constructors are not annotated
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=inner,
        **{f"{name}_token": SPECIALS[name] for name in ("pad", "unk", "bos", "eos")},
        extra_special_tokens={"image_token": SPECIALS["image"]},
        padding_side="left",
    )
    return tokenizer


def _vocabulary(pieces: Iterable[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys([*SPECIALS.values(), *pieces]))}


def _word_tokenizer() -> Tokenizer:
    vocabulary = _vocabulary([*string.digits, *string.ascii_letters, *".,?!:", *WORDS])
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS["unk"]))
    pieces = pre_tokenizers.Split(Regex(r"[A-Za-z]+|\d|[^\sA-Za-z\d]"), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s+"), "removed"), pieces])
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins the words with spaces
    return inner


def _byte_tokenizer() -> Tokenizer:
    inner = Tokenizer(models.BPE(_vocabulary(sorted(pre_tokenizers.ByteLevel.alphabet())), []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    ids = tokenizer.get_vocab()
    return {name: ids[token] for name, token in SPECIALS.items()}


def build_processor(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlavaNextProcessor | LlavaProcessor:
    """Image processor, tokenizer and template, as the family's processor class."""
    tile = recipe.tile_px
    sizes: dict[str, Any] = {"size": {"shortest_edge": tile}, "crop_size": {"height": tile, "width": tile}}
    common: dict[str, Any] = {
        "tokenizer": tokenizer,
        "patch_size": recipe.shape.patch_px,
        "vision_feature_select_strategy": recipe.strategy,
        # The strategy "default" takes one off again, so this is the number of prefix tokens.
        "num_additional_image_tokens": {"deit": 2, "siglip": 0}.get(recipe.tower, 1),
        "chat_template": chat_template(recipe),
    }
    image_processor: Any
    make: Any = LlavaProcessor if recipe.family == "llava" else LlavaNextProcessor
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if recipe.tower == "siglip" else {}
    if recipe.family == "llava_next":
        image_processor = LlavaNextImageProcessorPil(**sizes, **half, image_grid_pinpoints=recipe.grids_px)
    elif recipe.tower == "siglip":
        image_processor = SiglipImageProcessorPil(size=sizes["crop_size"], **half)
    else:
        image_processor = LlavaImageProcessorPil(**sizes)
    processor: LlavaNextProcessor | LlavaProcessor = make(image_processor=image_processor, **common)
    return processor
