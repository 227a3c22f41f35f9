"""Vocabulary, tokenizer, chat template, and the ids that SmolVLM's processor makes of a picture."""

from __future__ import annotations

from functools import lru_cache

from drawing import TILE
from model import word_tokenizer
from questions import vocabulary
from scenes import SIZES
from transformers import PreTrainedTokenizerFast

MERGED = 16  # visual tokens of a tile: 8 x 8 patches, merged 2 x 2
FAKE, GLOBAL, IMAGE = "<fake_token_around_image>", "<global-img>", "<image>"
BEGIN, END = "<|im_start|>", "<end_of_utterance>"
PLACES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))
SPECIALS = ("<pad>", BEGIN, END, "<unk>", IMAGE, FAKE, GLOBAL, *PLACES)
# Two newlines in a row are one token, as a BPE vocabulary may have it: joining ids piece by piece gives another prompt.
WORDS = vocabulary((*SPECIALS, "\n", "\n\n", ":", "User", "Assistant"))
IDS = {word: i for i, word in enumerate(WORDS)}
CLOSING = tuple(IDS[word] for word in (END, "\n", "Assistant", ":"))  # between question and answer
# The template of the published SmolVLM2, without videos.
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer under the token names that SmolVLM's processor asks for."""
    return word_tokenizer(
        WORDS, SPECIALS, removed=r"[^\S\n]+", bos_token=BEGIN, eos_token=END, chat_template=CHAT_TEMPLATE,
        extra_special_tokens={
            "image_token": IMAGE, "fake_image_token": FAKE, "global_image_token": GLOBAL,
            "end_of_utterance_token": END,
        },
    )  # fmt: skip


@lru_cache
def prefix(grid: int) -> tuple[int, ...]:
    """Ids from the start of the prompt to the end of the picture; `grid` is an index of SIZES."""
    rows, columns = SIZES[grid][0] // TILE, SIZES[grid][1] // TILE
    words = [BEGIN, "User", ":"]
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            words += [FAKE, f"<row_{row}_col_{column}>", *[IMAGE] * MERGED]
        words.append("\n" if row < rows else "\n\n")
    words += [FAKE, GLOBAL, *[IMAGE] * MERGED, FAKE]
    return tuple(IDS[word] for word in words)
