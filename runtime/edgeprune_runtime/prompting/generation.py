"""The loop that answers: choose a token, say what it completes, take a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeprune_runtime.errors import RequestError
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.prompting.pack import Packed
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.prompting.requests import Request
from edgeprune_runtime.prompting.sampling import Sampler
from edgeprune_runtime.results import Answer, Piece, View
from edgeprune_runtime.timing import Stopwatch


@dataclass(frozen=True, eq=False)
class Prefilled:
    """A prompt in the cache. logits [V] of its last row; reused: rows that lay there already; room: tokens that there is place for;
    ends: tokens that end an answer; inside: visual rows that stayed at each cut of the language model; notes: sentences about them."""

    packed: Packed
    logits: np.ndarray
    views: tuple[View, ...]
    reused: int
    room: int
    ends: frozenset[int]
    inside: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def generate(
    asked: Request,
    start: Prefilled,
    watch: Stopwatch,
    language: LanguageModel,
    prompter: Prompter,
    current: Callable[[], bool],
) -> Iterator[Piece]:
    """Tokens as they are chosen; the last piece carries the whole answer. current: whether the cache still holds this prompt."""
    wanted, sampler, logits, views = asked.max_tokens, Sampler(asked.sampling), start.logits, start.views
    chosen: list[int] = []
    shown = ""
    reason: Literal["stop", "length", "capacity"] = "capacity" if start.room < wanted else "length"
    while True:
        token = sampler.choose(logits)
        chosen.append(token)
        if token in start.ends:
            reason = "stop"
            break
        text = prompter.text(chosen)
        if not text.endswith("\ufffd"):  # an unfinished multi-byte character waits for its next token
            yield Piece(token, text[len(shown) :])
            shown = text
        if len(chosen) == min(wanted, start.room):
            break
        if not current():
            raise RequestError("another request was started before this stream ended; finish one before the next")
        with watch.span("decode"):
            logits = language.step(token, start.packed.next_position + len(chosen) - 1)
    words = chosen[:-1] if reason == "stop" else chosen
    text = prompter.text(words)
    answer = Answer(
        text=text.strip(),
        token_ids=tuple(chosen),
        finish_reason=reason,
        prompt_tokens=len(start.packed.ids),
        cached_tokens=start.reused,
        visual_tokens=sum(len(view.kept) for view in views),
        budget=", ".join(dict.fromkeys(view.selection.budget for view in views)) or None,
        method=", ".join(dict.fromkeys(view.selection.method for view in views)) or None,
        kept=tuple(triple for view in views for triple in view.triples),
        spans=tuple(span for view in views for span in view.spans) + watch.spans,
        notes=(*dict.fromkeys(note for view in views for note in view.notes), *start.notes),
        pictures=tuple(view.shown for view in views),
        inside=start.inside,
    )
    yield Piece(None, text[len(shown) :], answer)
