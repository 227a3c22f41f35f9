"""Questions from a JSONL file: one object per line with `image`, `question`, `answers` (or `answer`), optional `kind`.

`image` is relative to the file and may not leave its folder, so a data file from elsewhere cannot point at other files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeprune_runtime.errors import MeasurementError


@dataclass(frozen=True, slots=True)
class Question:
    """`number` counts from 0 in the file; `image_name` is as written there, `image` is where it lies."""

    number: int
    image: Path
    image_name: str
    question: str
    answers: tuple[str, ...]
    kind: str | None


class _Line(msgspec.Struct):
    image: str
    question: str
    answers: tuple[str, ...] = ()
    answer: str | None = None
    kind: str | None = None


def load_questions(path: Path) -> tuple[Question, ...]:
    """All questions in order; blank lines are skipped. Raises MeasurementError that names file and line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MeasurementError(
            f"cannot read the questions of {path}: {(error.strerror or str(error)).lower()}"
        ) from error
    root = path.parent.resolve()
    questions: list[Question] = []
    for line_number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            questions.append(_question(line, len(questions), root, f"{path}, line {line_number}"))
    if not questions:
        raise MeasurementError(f"{path} holds no questions; expected one JSON object per line")
    return tuple(questions)


def _question(line: bytes, number: int, root: Path, where: str) -> Question:
    try:
        found = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MeasurementError(
            f'{where}: {error}; expected {{"image": "a.png", "question": "...", "answers": ["..."]}}'
        ) from error
    answers = found.answers or (() if found.answer is None else (found.answer,))
    if not answers:
        raise MeasurementError(f"{where}: no reference answer; give `answers` (a list) or `answer`")
    if not found.question.strip():
        raise MeasurementError(f"{where}: the question is empty")
    image = (root / found.image).resolve()
    if not image.is_relative_to(root):
        raise MeasurementError(
            f"{where}: image {found.image!r} lies outside the folder of the file; move it inside, use a relative path"
        )
    if not image.is_file():
        raise MeasurementError(f"{where}: image {found.image!r} does not exist in {root}")
    return Question(number, image, found.image, found.question, answers, found.kind)
