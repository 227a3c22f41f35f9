"""What is asked: one question, or a dialogue so far, with marks where pictures stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeprune_runtime.errors import PromptError

#: Stands for the next picture in a question; without any, pictures come first.
MARK = "<image>"


@dataclass(frozen=True)
class Turn:
    """What one side said. `text` may hold MARK once for each picture that belongs to it."""

    role: Literal["system", "user", "assistant"]
    text: str


Prompt = str | Sequence[Turn]


def turns_of(prompt: Prompt) -> tuple[Turn, ...]:
    """A question as a dialogue of one turn. Raises PromptError for what is neither."""
    if isinstance(prompt, str):
        return (Turn("user", prompt),)
    given = tuple(prompt) if isinstance(prompt, Sequence) else ()
    turns = tuple(turn for turn in given if isinstance(turn, Turn) and isinstance(turn.text, str))
    if not turns or turns != given:
        raise PromptError(f"the prompt is {type(prompt).__name__}, expected text or a list of Turn")
    return turns


def question_of(prompt: Prompt) -> str:
    """What was asked last, without marks."""
    asked = [turn.text for turn in turns_of(prompt) if turn.role == "user"]
    return asked[-1].replace(MARK, " ") if asked else ""


def messages_of(prompt: Prompt, images: int) -> list[dict[str, Any]]:
    """The dialogue as chat templates take it: [{"role", "content": [{"type": "image"}, {"type": "text", "text"}]}].

    Raises PromptError where there are marks, and not one for each picture.
    """
    turns = turns_of(prompt)
    marks = sum(turn.text.count(MARK) for turn in turns)
    if marks not in (0, images):
        raise PromptError(
            f"the prompt holds {marks} marks {MARK} for {images} picture(s); give one for each picture, in their order, or none"
        )
    ahead = 0 if marks else images
    messages = []
    for turn in turns:
        content: list[dict[str, str]] = []
        if turn.role == "user":
            content += [{"type": "image"}] * ahead
            ahead = 0
        for number, text in enumerate(turn.text.split(MARK)):
            if number:
                content.append({"type": "image"})
            if text or not turn.text:
                content.append({"type": "text", "text": text})
        messages.append({"role": turn.role, "content": content})
    if ahead:
        raise PromptError("there is a picture and no turn of the user's that it could belong to; add one")
    return messages
