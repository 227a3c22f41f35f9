"""From a question to token ids: the checkpoint's own chat template and tokenizer, with pictures in their places.

Templates are rendered by jinja2 in its sandbox. Texts between the tiles of a picture are tokenised together with the prompt around
them, one placeholder for each run of rows, because neighbouring texts may become one token.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import BundleError, PromptError
from edgeprune_runtime.pictures.packed import ALWAYS, PackedPicture, RowRange
from edgeprune_runtime.prompting.content_words import content_words
from edgeprune_runtime.prompting.pack import PromptTokens
from edgeprune_runtime.prompting.template import compiled, render_template
from edgeprune_runtime.prompting.turns import MARK, Prompt, messages_of, turns_of

VIDEO_TOKEN = "video_token"
"""Which of the special tokens stands for a video, in checkpoints that take some."""
MOST_PROMPT = 1 << 20  # characters
LEAST_PROMPT = 1 << 14  # that every bundle takes
CHARACTERS_PER_POSITION = 64
_TRIED = "word"  # a question that every template can take


@dataclass(frozen=True)
class Rendered:
    """A prompt as text, one placeholder per picture. spells_bos: its first token is written out."""

    text: str
    spells_bos: bool


class _MessageForm(NamedTuple):
    """How a chat template takes a message: as parts, or as one text. why: it takes no picture either way."""

    parts: bool
    why: str | None


class Prompter:
    """A tokenizer and a chat template. Raises BundleError for a tokenizer file that cannot be read.

    capacity  positions of a prompt, from which follows how long a text is looked at; None: as long as any
    """

    def __init__(
        self,
        tokenizer: Path,
        template: str | None,
        special_tokens: Mapping[str, str],
        image_token_id: int,
        capacity: int | None = None,
    ) -> None:
        self._image_id, self._special, self._template = image_token_id, special_tokens, template
        self._most = longest_prompt(capacity)
        with _tokenizer_errors(f"{tokenizer} cannot be read"):
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        if self._template is not None:
            with suppress(
                Exception
            ):  # compiled ahead for the first question; a broken template fails only those that use it
                compiled(self._template)
        self._image_token: str = self._tokenizer.id_to_token(self._image_id) or ""

    @classmethod
    def of(cls, bundle: Bundle) -> Prompter:
        """The one of a bundle."""
        template = bundle.text("chat_template.jinja") if "chat_template.jinja" in bundle.manifest.files else None
        special, language = bundle.manifest.special_tokens, bundle.manifest.language
        return cls(bundle.path("tokenizer.json"), template, special, language.image_token_id, language.capacity)

    def render(self, prompt: Prompt, *, images: int, template: bool = True) -> Rendered:
        """The prompt as text, one placeholder per picture. template=False: `prompt`, a text, is used as it stands."""
        turns = turns_of(prompt)
        self._require_length(sum(len(turn.text) for turn in turns))
        video = self._special.get(VIDEO_TOKEN)
        if video and any(video in turn.text for turn in turns):
            raise PromptError(
                f"the prompt holds the video placeholder {video!r}; a bundle answers about still pictures: give one frame as the picture"
            )
        if not template and len(turns) > 1:
            raise PromptError(
                "a dialogue of several turns needs the checkpoint's chat template; give the whole prompt as one text"
            )
        text = turns[0].text if not template else self._in_template(prompt, images)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the prompt holds a character that is not Unicode text ({error.reason}); give valid UTF-8"
            ) from error
        found = text.count(self._image_token) if self._image_token else 0
        if found != images:
            raise self._wrong_placeholders(found, images)
        # As transformers does: a template that spells its own BOS must not get a second one, any other leaves it to the tokenizer.
        bos = self._special.get("bos_token")
        return Rendered(text, template and bool(bos) and text.startswith(str(bos)))

    def tokens(self, asked: Rendered, pictures: Sequence[PackedPicture] = ()) -> PromptTokens:
        """Token ids of a rendered prompt, one placeholder for each run of rows of its pictures."""
        around = asked.text.split(self._image_token) if self._image_token else [asked.text]
        expanded, texts = _expanded(around, pictures, self._image_token)
        with _tokenizer_errors("the bundle's tokenizer fails on this prompt"):
            encoding = self._tokenizer.encode(expanded, add_special_tokens=not asked.spells_bos)
        ids: list[int] = encoding.ids
        if not ids:
            raise PromptError("the prompt is empty; ask something")
        if ids.count(self._image_id) != sum(not segment.text for picture in pictures for segment in picture.segments):
            raise self._wrong_placeholders(ids.count(self._image_id), len(pictures))
        group = np.full((len(ids), 2), ALWAYS, np.int64)
        picture = np.full(len(ids), -1, np.int64)
        if texts:
            _give_groups(encoding.offsets, texts, group, picture)
        return PromptTokens(np.asarray(ids, np.int64), self._image_id, group, picture)

    def _in_template(self, prompt: Prompt, images: int) -> str:
        if self._template is not None:
            return self._render(prompt, images)
        return "".join(self._joined(message["content"]) for message in messages_of(prompt, images))

    def expanded(self, asked: Rendered, pictures: Sequence[PackedPicture]) -> str:
        """A rendered prompt as transformers takes it: a placeholder for every row of every picture."""
        around = asked.text.split(self._image_token)
        parts = [around[0]]
        for picture, after in zip(pictures, around[1:], strict=True):
            parts += [s.text or self._image_token * (s.stop - s.start) for s in picture.segments]
            parts.append(after)
        return "".join(parts)

    def content_ids(self, question: str) -> list[int]:
        """Token ids of the words of a question that say what to look for: no placeholder, no function words, no special tokens."""
        self._require_length(len(question))
        words = content_words(question.replace(self._image_token, " ") if self._image_token else question)
        with _tokenizer_errors("the bundle's tokenizer fails on this question"):
            ids: list[int] = self._tokenizer.encode(" ".join(words), add_special_tokens=False).ids
        return ids

    def text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _require_length(self, characters: int) -> None:
        if characters > self._most:
            raise PromptError(
                f"the prompt has {characters} characters, expected at most {self._most} for this bundle's capacity; shorten it, or export "
                "with a larger --capacity"
            )

    def _wrong_placeholders(self, found: int, pictures: int) -> PromptError:
        return PromptError(
            f"the prompt holds {found} image placeholder(s) {self._image_token!r} for {pictures} picture(s); "
            "give one picture per placeholder, and no placeholder in a question without a picture"
        )

    def _render(self, prompt: Prompt, images: int) -> str:
        said = [turn.text for turn in turns_of(prompt)]
        if self._image_token != MARK and any(self._image_token in text for text in said):
            raise PromptError(
                f"the question contains the image placeholder {self._image_token!r}, which the chat template adds itself; write {MARK} where "
                "a picture stands, or pass the whole prompt with the template switched off"
            )
        return self._rendered(prompt, images, parts=self._form.parts)

    def _rendered(self, prompt: Prompt, images: int, *, parts: bool) -> str:
        """parts: each message is a list of pictures and texts; otherwise one text that holds placeholders, as for LLaVA's first models."""
        messages = messages_of(prompt, images)
        if not parts:
            for message in messages:
                message["content"] = self._joined(message["content"])
        given = {**self._special, "messages": messages, "add_generation_prompt": True}
        return render_template(self._template or "", 2 * self._most, given)

    def _joined(self, content: Sequence[Mapping[str, str]]) -> str:
        """Parts of a message as one text, a placeholder and a line's end for each picture."""
        return "".join(part.get("text", f"{self._image_token}\n") for part in content)

    @functools.cached_property
    def _form(self) -> _MessageForm:
        why = ""
        for parts in (True, False):
            try:
                text = self._rendered(_TRIED, 1, parts=parts)
            except PromptError as error:
                why = why or str(error)
                continue
            if text.count(self._image_token) == 1 and _TRIED in text:
                return _MessageForm(parts, None)
        return _MessageForm(True, why or "the chat template makes no place for exactly one picture")

    def why_no_pictures(self) -> str | None:
        """Why the chat template cannot ask about a picture; None where it can, or where there is none."""
        return None if self._template is None else self._form.why


def longest_prompt(capacity: int | None) -> int:
    """Characters of a prompt that is tokenised at all, for so many positions."""
    return MOST_PROMPT if capacity is None else min(MOST_PROMPT, max(LEAST_PROMPT, CHARACTERS_PER_POSITION * capacity))


@contextmanager
def _tokenizer_errors(what: str) -> Iterator[None]:
    """Failures of tokenizers, which raises plain Exception, and panics of its Rust code, which are no Exception, as BundleError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise BundleError(f"{what} ({error}); export the bundle again") from error
        raise


#: Characters start .. stop - 1 of a prompt that belong to rows of a picture: (start, stop, picture, group).
Marked = tuple[int, int, int, RowRange]


def _expanded(around: Sequence[str], pictures: Sequence[PackedPicture], placeholder: str) -> tuple[str, list[Marked]]:
    """The text with each picture's own texts and one placeholder per run of rows, and where texts are that may leave with rows."""
    parts, marked, length = [around[0]], [], len(around[0])
    for number, (picture, after) in enumerate(zip(pictures, around[1:], strict=True)):
        for segment in picture.segments:
            part = segment.text or placeholder
            if segment.text and segment.group != ALWAYS:
                marked.append((length, length + len(part), number, segment.group))
            parts.append(part)
            length += len(part)
        parts.append(after)
        length += len(after)
    return "".join(parts), marked


def _give_groups(
    offsets: Sequence[tuple[int, int]], texts: Sequence[Marked], group: np.ndarray, picture: np.ndarray
) -> None:
    """Fill in what each token belongs to. A token of two neighbouring texts belongs to the rows of both; one that reaches beyond them
    always stays."""
    for token, (start, stop) in enumerate(offsets):
        touched = [text for text in texts if text[0] < stop and start < text[1]]
        if touched and touched[0][0] <= start and stop <= touched[-1][1]:
            group[token] = min(text[3][0] for text in touched), max(text[3][1] for text in touched)
            picture[token] = touched[0][2]
