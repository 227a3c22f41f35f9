"""From a question to token ids: the checkpoint's own chat template and tokenizer, and the packing of visual tokens.

Templates are rendered by jinja2 in its sandbox. The sequence that reaches the language model is described by `Sequence`: which rows
are text, which are visual, which are newlines, and the position of each.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import BundleError, PromptError
from edgeprune_runtime.pictures.packed import Layout
from edgeprune_runtime.prompting.content_words import content_words


@dataclass(frozen=True)
class Packed:
    """A prompt in packed order. Lengths S; `ids` is -1 for visual rows and -2 for newlines.

    positions [S] are what the rotary embedding sees; `next_position` belongs to the first generated token.
    """

    ids: np.ndarray
    positions: np.ndarray
    next_position: int


class Prompter:
    """Tokenizer and chat template of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._image_id = bundle.manifest.language.image_token_id
        self._special = bundle.manifest.special_tokens
        try:
            self._tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(
                f"tokenizer.json in bundle {bundle.root} cannot be read ({error}); export the bundle again"
            ) from error
        self._template = bundle.text("chat_template.jinja") if "chat_template.jinja" in bundle.manifest.files else None
        if self._template is not None:
            with suppress(
                Exception
            ):  # compiled ahead for the first question; a broken template fails only those that use it
                _compile(self._template)
        self._image_token: str = self._tokenizer.id_to_token(self._image_id) or ""

    def ids(self, prompt: str, *, images: int, template: bool = True) -> list[int]:
        """Token ids of a prompt with one placeholder per image. template=False: `prompt` is used as it stands."""
        if not isinstance(prompt, str):
            raise PromptError(f"the prompt is {type(prompt).__name__}, expected text")
        text = self.rendered(prompt, images=images) if template else prompt
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the prompt holds a character that is not Unicode text ({error.reason}); give valid UTF-8"
            ) from error
        # As transformers does: a template that spells its own BOS must not get a second one, any other leaves it to the tokenizer.
        bos = self._special.get("bos_token")
        spelled = template and bool(bos) and text.startswith(str(bos))
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not spelled).ids
        found = ids.count(self._image_id)
        if found != images:
            raise PromptError(
                f"the prompt holds {found} image placeholder(s) {self._image_token!r} for {images} picture(s); "
                "give one picture per placeholder, and no placeholder in a question without a picture"
            )
        return ids

    def rendered(self, prompt: str, *, images: int) -> str:
        """The prompt as text, placeholders included, before tokenization."""
        if self._template is None:
            return f"{self._image_token}\n" * images + prompt
        return self._render(prompt, images)

    def content_ids(self, question: str) -> list[int]:
        """Token ids of the words of a question that say what to look for: no placeholder, no function words, no special tokens."""
        words = content_words(question.replace(self._image_token, " ") if self._image_token else question)
        ids: list[int] = self._tokenizer.encode(" ".join(words), add_special_tokens=False).ids
        return ids

    def text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _render(self, prompt: str, images: int) -> str:
        if self._image_token in prompt:
            raise PromptError(
                f"the question contains the image placeholder {self._image_token!r}, which the chat template adds itself; remove it, "
                "or pass the whole prompt with the template switched off"
            )
        content: list[dict[str, str]] = [{"type": "image"}] * images + [{"type": "text", "text": prompt}]
        try:
            rendered = _compile(self._template or "").render(
                messages=[{"role": "user", "content": content}], add_generation_prompt=True, **self._special
            )
        except PromptError:
            raise
        except Exception as error:  # a template can fail in any way; it is data from the checkpoint
            raise PromptError(f"the checkpoint's chat template failed on this prompt: {error}") from error
        return str(rendered)


def pack(
    ids: list[int], image_id: int, layout: Layout | None, kept: np.ndarray, newlines: str, positions: str
) -> Packed:
    """Put K visual tokens and the newlines in the place of the image placeholder.

    kept [K] flat indices ascending by slot; newlines "all" | "rows" | "none"; positions "keep" | "renumber": kept positions are those
    of the unpruned sequence, so text after the picture starts where it would have started.
    """
    if layout is None:
        row = np.asarray(ids, np.int64)
        return Packed(row, np.arange(len(row)), len(row))
    place = ids.index(image_id)
    before, after = np.asarray(ids[:place], np.int64), np.asarray(ids[place + 1 :], np.int64)
    slots = layout.slot.reshape(-1)[kept]
    breaks = _newlines(layout, slots, newlines)
    inside = np.concatenate([slots, breaks])
    kinds = np.concatenate([np.full(len(slots), -1), np.full(len(breaks), -2)])
    order = np.argsort(inside, kind="stable")
    packed = np.concatenate([before, kinds[order], after])
    if positions == "renumber":
        return Packed(packed, np.arange(len(packed)), len(packed))
    start = place + layout.length
    where = np.concatenate([np.arange(place), place + inside[order], start + np.arange(len(after))])
    return Packed(packed, where, start + len(after))


def _newlines(layout: Layout, slots: np.ndarray, policy: str) -> np.ndarray:
    breaks = layout.newline_slots
    if policy == "none":
        return breaks[:0]
    if policy == "all" or not len(breaks):
        return breaks
    row = np.searchsorted(breaks, slots[slots > layout.newline_slots[0] - layout.mosaic[1] - 1])
    kept: np.ndarray = breaks[np.unique(row)]
    return kept


@functools.lru_cache(maxsize=4)
def _compile(source: str) -> Any:
    """Compile a chat template as transformers does: trimmed blocks, loop controls, `raise_exception` and `strftime_now`."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise PromptError(f"the chat template refused the prompt: {message}")

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals.update(raise_exception=raise_exception, strftime_now=lambda form: datetime.now().strftime(form))
    return environment.from_string(source)
