"""Answers token by token: streaming, stopping, sampling, and the end of the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune_runtime import Answer, Model, Piece, Sampling
from edgeprune_runtime.errors import PromptError, RequestError
from tests.exports import GATED, exported, own_bundle, resealed

QUESTION = "what is the number?"
PICTURE = np.random.default_rng(4).integers(0, 256, (100, 140, 3), dtype=np.uint8)


def finished(pieces: list[Piece]) -> Answer:
    assert [piece.answer is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    answer = pieces[-1].answer
    assert answer is not None
    return answer


@pytest.fixture(scope="module")
def bytewise() -> Path:
    """A bundle whose tokenizer has one token per byte, so that a character may need several."""
    variant, plan = next((variant, plan) for variant, plan in GATED if variant.get("tokenizer") == "bytes")
    return exported(variant, plan=plan)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.5, seed=2)])
@pytest.mark.parametrize("image", [None, PICTURE], ids=["text", "picture"])
def test_streamed_pieces_join_to_the_text(opened: Model, sampling: Sampling, image: np.ndarray | None) -> None:
    pieces = list(opened.stream(QUESTION, image=image, max_tokens=12, sampling=sampling))
    answer = finished(pieces)
    assert "".join(piece.text for piece in pieces).strip() == answer.text
    assert answer.text and len(answer.token_ids) <= 12
    shown = [piece.token_id for piece in pieces[:-1]]
    assert shown == list(answer.token_ids[: len(shown)])
    again = opened.ask(QUESTION, image=image, max_tokens=12, sampling=sampling)
    assert (again.text, again.token_ids, again.finish_reason) == (answer.text, answer.token_ids, answer.finish_reason)


def test_characters_of_several_tokens_are_never_shown_in_halves(bytewise: Path) -> None:
    with Model.open(bytewise, threads=1) as model:
        for seed in range(6):
            warm = Sampling(temperature=3.0, seed=seed)
            pieces = list(model.stream(QUESTION, max_tokens=40, sampling=warm))
            answer = finished(pieces)
            assert "".join(piece.text for piece in pieces).strip() == answer.text
            assert len(pieces) <= len(answer.token_ids) + 1


def test_every_token_is_announced_by_one_piece(opened: Model) -> None:
    pieces = list(opened.stream(QUESTION, max_tokens=7, stop=False))
    assert [piece.token_id for piece in pieces[:-1]] == list(finished(pieces).token_ids)
    assert pieces[-1].token_id is None


def test_max_tokens_is_exact(opened: Model) -> None:
    longest = opened.ask(QUESTION, image=PICTURE, max_tokens=9, stop=False)
    assert len(longest.token_ids) == 9 and longest.finish_reason == "length"
    for count in (1, 2, 5):
        answer = opened.ask(QUESTION, image=PICTURE, max_tokens=count, stop=False)
        assert answer.token_ids == longest.token_ids[:count]
        assert answer.finish_reason == "length"


def test_a_stop_token_ends_the_answer_and_is_not_shown(opened: Model, tiny_bundle: Path, tmp_path: Path) -> None:
    free = opened.ask(QUESTION, image=PICTURE, max_tokens=8, stop=False)
    end = next(token for token in free.token_ids[2:] if token not in free.token_ids[:2])
    at = free.token_ids.index(end)
    bundle = resealed(own_bundle(tiny_bundle, tmp_path), lambda m: m["language"].update(eos_token_ids=[1, end]))
    with Model.open(bundle, threads=1) as model:
        pieces = list(model.stream(QUESTION, image=PICTURE, max_tokens=8))
        answer = finished(pieces)
        assert answer.token_ids == free.token_ids[: at + 1]
        assert answer.finish_reason == "stop"
        assert answer.text == opened.ask(QUESTION, image=PICTURE, max_tokens=at, stop=False).text
        assert "".join(piece.text for piece in pieces).strip() == answer.text
        exactly = model.ask(QUESTION, image=PICTURE, max_tokens=at + 1)
        assert exactly.finish_reason == "stop" and exactly.token_ids == answer.token_ids


def prompt_of(model: Model, positions: int) -> str:
    """Raw text of exactly so many positions."""
    text = "red " * positions
    assert model.ask("red " * 5, template=False, max_tokens=1).prompt_tokens == 5
    return text


def test_a_full_cache_ends_the_answer(opened: Model) -> None:
    capacity = opened.bundle.manifest.language.capacity
    for room, asked, count, reason in (
        (0, 1, 1, "length"),
        (0, 2, 1, "capacity"),
        (2, 9, 3, "capacity"),
        (2, 3, 3, "length"),
        (2, 2, 2, "length"),
    ):
        text = prompt_of(opened, capacity - room)
        answer = opened.ask(text, template=False, max_tokens=asked, stop=False)
        assert (len(answer.token_ids), answer.finish_reason) == (count, reason), (room, asked)
    with pytest.raises(PromptError, match=f"{capacity + 1} positions, the bundle's capacity is {capacity}"):
        opened.ask(prompt_of(opened, capacity + 1), template=False)


def test_the_last_tokens_before_the_end_of_the_cache_are_right(opened: Model) -> None:
    """With the cache full to the last row, each token still equals what a new prefill would choose."""
    capacity = opened.bundle.manifest.language.capacity
    text = prompt_of(opened, capacity - 4)
    answer = opened.ask(text, template=False, max_tokens=20, stop=False)
    prompter = opened._prompter
    asked = prompter.tokens(prompter.render(text, images=0, template=False))
    ids = [*asked.ids.tolist(), *answer.token_ids]
    for cut in range(capacity - 4, len(ids)):
        logits = opened.language.prefill(opened.language.embed(ids[:cut]), np.arange(cut)[None])
        assert int(logits.argmax()) == ids[cut]


def test_equal_seeds_give_equal_answers(opened: Model) -> None:
    def tokens(seed: int, **fields: float) -> tuple[int, ...]:
        warm = Sampling(**({"temperature": 1.5} | fields), seed=seed)  # type: ignore[arg-type]
        return opened.ask(QUESTION, image=PICTURE, max_tokens=12, sampling=warm, stop=False).token_ids

    assert tokens(1) == tokens(1)
    assert len({tokens(seed) for seed in range(5)}) > 1
    greedy = opened.ask(QUESTION, image=PICTURE, max_tokens=12, stop=False).token_ids
    assert tokens(1, top_p=1e-9) == tokens(2, temperature=1e-6) == greedy


def test_an_abandoned_stream_does_not_disturb_the_next_question(opened: Model) -> None:
    before = opened.ask(QUESTION, image=PICTURE, max_tokens=6).token_ids
    stream = opened.stream("say the colour", image=PICTURE, max_tokens=50, stop=False)
    next(stream), next(stream)
    stream.close()
    assert opened.ask(QUESTION, image=PICTURE, max_tokens=6).token_ids == before


def test_a_stream_that_another_request_overtook_says_so(opened: Model) -> None:
    """The cache holds one sequence: going on would answer with the other question's memory."""
    stream = opened.stream(QUESTION, image=PICTURE, max_tokens=9, stop=False)
    next(stream)
    overtaking = opened.ask("say the colour", max_tokens=3).token_ids
    with pytest.raises(RequestError, match="another request"):
        list(stream)
    assert opened.ask("say the colour", max_tokens=3).token_ids == overtaking


def test_text_alone_is_answered(opened: Model) -> None:
    answer = opened.ask("say a word", max_tokens=5)
    assert answer.visual_tokens == 0 and answer.kept == ()
    assert answer.budget is None and answer.method is None
    names = [span.name for span in answer.spans]
    assert names[:2] == ["preprocess", "prefill"] and set(names[2:]) <= {"decode"}


def test_spans_name_every_stage_that_ran(opened: Model) -> None:
    answer = opened.ask(QUESTION, image=PICTURE, max_tokens=4, stop=False)
    seen, asked = ["preprocess", "tower", "select"], ["preprocess", "prefill", *["decode"] * 3]
    assert [span.name for span in answer.spans] == seen + asked
    view = opened.see(PICTURE)
    again = opened.ask(QUESTION, image=view, max_tokens=4, stop=False)
    assert [span.name for span in view.spans] == seen and [span.name for span in again.spans] == asked
    assert all(span.wall_s >= 0 and span.cpu_s >= 0 for span in answer.spans)


def test_the_answer_depends_on_the_picture_and_on_the_question(opened: Model) -> None:
    answers = {
        opened.ask(question, image=image, max_tokens=6, stop=False).token_ids
        for question in (QUESTION, "say the colour")
        for image in (PICTURE, PICTURE[::-1], None)
    }
    assert len(answers) >= 5
