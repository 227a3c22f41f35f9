"""Whatever was asked before, an answer is that of a model that was just opened, to the last bit of its logits; and what both prompts
begin with is not computed again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeprune_runtime import Answer, Model, Turn, View
from edgeprune_runtime.errors import PromptError, RequestError
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.prompting.sampling import Sampler
from edgeprune_runtime.stages.chain import Chain
from tests.exports import CHUNK
from tests.runtime.test_prefix import BUNDLES

WORD, NUMBER = "which word is it ?", "what is the number ?"


class Asked(NamedTuple):
    """An answer and the logits that each of its tokens was chosen from."""

    answer: Answer
    logits: list[bytes]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Logits that were chosen from, in order."""
    found: list[bytes] = []
    choose = Sampler.choose

    def noted(self: Sampler, logits: np.ndarray) -> int:
        found.append(logits.tobytes())
        return choose(self, logits)

    monkeypatch.setattr(Sampler, "choose", noted)
    return found


@pytest.fixture(scope="module", params=BUNDLES)
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    with Model.open(BUNDLES[request.param](), threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain() -> Iterator[Model]:
    with Model.open(BUNDLES["fp32"](), threads=1) as opened:
        yield opened


def picture(seed: int = 0, height: int = 96, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def asked(model: Model, seen: list[bytes], *prompt: Any, **how: Any) -> Asked:
    seen.clear()
    answer = model.ask(*prompt, **({"max_tokens": 3, "stop": False} | how))
    return Asked(answer, list(seen))


def fresh(model: Model, seen: list[bytes], *prompt: Any, **how: Any) -> Asked:
    model.forget()
    found = asked(model, seen, *prompt, **how)
    assert found.answer.cached_tokens == 0
    return found


def requests_of(model: Model) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Prompts that begin alike in every way that there is, and hardly at all."""
    whole, other = model.see(picture(), budget="1.0"), model.see(picture(1), budget="1.0")
    few, aware = model.see(picture(), budget="0.2"), model.see(picture(), budget="0.2", method="cdpruner")
    turns = [Turn("user", WORD), Turn("assistant", "a red circle and a blue square"), Turn("user", NUMBER)]
    return {
        "a picture": (WORD, {"image": whole}),
        "another question": (NUMBER, {"image": whole}),
        "the same file": (NUMBER, {"image": picture(), "budget": "1.0"}),
        "a longer answer": (WORD, {"image": whole, "max_tokens": 40}),
        "a dialogue": (turns, {"image": whole}),
        "another picture": (WORD, {"image": other}),
        "another budget": (WORD, {"image": few}),
        "a method that looks at the question": (WORD, {"image": aware}),
        "and another question": (NUMBER, {"image": aware}),
        "two pictures": (WORD, {"image": [whole, other]}),
        "two others": (NUMBER, {"image": [whole, few]}),
        "the other way round": (WORD, {"image": [other, whole]}),
        "no picture": (WORD, {}),
        "a long text": ("red " * 100, {"template": False}),
        "a longer text": ("red " * 130, {"template": False}),
    }


def test_no_order_of_questions_changes_an_answer(model: Model, seen: list[bytes]) -> None:
    given = requests_of(model)
    expected = {name: fresh(model, seen, prompt, **how) for name, (prompt, how) in given.items()}
    reused = 0
    for name in np.random.default_rng(5).choice(list(given), 4 * len(given)):
        prompt, how = given[name]
        found = asked(model, seen, prompt, **how)
        assert found.logits == expected[name].logits, name
        assert (found.answer.token_ids, found.answer.kept) == (
            expected[name].answer.token_ids,
            expected[name].answer.kept,
        )
        reused += found.answer.cached_tokens
    assert reused > 0


def shared_rows(model: Model, first: str, second: str) -> int:
    """Rows of the second prompt that were not computed again behind the first."""
    given = requests_of(model)
    for name in (first, second):
        prompt, how = given[name]
        answer = model.ask(prompt, **how | {"max_tokens": how.get("max_tokens", 2)})
    assert answer.cached_tokens % CHUNK == 0 and answer.cached_tokens < answer.prompt_tokens
    return answer.cached_tokens


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a picture", "another question"),
        ("a picture", "the same file"),  # encoded again, and then it is the same
        ("a longer answer", "a dialogue"),
        ("two pictures", "another question"),
        ("a long text", "a longer text"),
        ("another budget", "another budget"),
    ],
)
def test_what_both_prompts_begin_with_is_not_computed_again(plain: Model, first: str, second: str) -> None:
    assert shared_rows(plain, first, second) >= CHUNK


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a picture", "another picture"),
        ("another budget", "a method that looks at the question"),
        ("two pictures", "the other way round"),
        ("a picture", "no picture"),
        ("no picture", "a picture"),
        ("a long text", "a picture"),
    ],
)
def test_what_differs_from_the_first_chunk_on_is_computed_whole(plain: Model, first: str, second: str) -> None:
    assert shared_rows(plain, first, second) == 0


def test_the_visual_rows_of_a_second_question_are_not_computed_again(plain: Model) -> None:
    view = plain.see(picture(), budget="1.0")
    plain.ask(WORD, image=view, max_tokens=2)
    second = plain.ask(NUMBER, image=view, max_tokens=2)
    assert second.cached_tokens > second.visual_tokens - CHUNK


def test_other_policies_of_positions_and_separators_make_other_rows(plain: Model, seen: list[bytes]) -> None:
    plan, view = plain.bundle.manifest.plan, plain.see(picture(), budget="0.2")
    kept = fresh(plain, seen, WORD, image=view)
    try:
        plain.set_policies(positions="renumber", separators="none")
        renumbered = asked(plain, seen, WORD, image=view)
        assert renumbered.logits == fresh(plain, seen, WORD, image=view).logits != kept.logits
    finally:
        plain.set_policies(positions=plan.positions, separators=plan.separators)
    assert asked(plain, seen, WORD, image=view).logits == kept.logits


def test_a_view_whose_numbers_were_changed_is_another_view(plain: Model, seen: list[bytes]) -> None:
    view = plain.see(picture(), budget="1.0")
    plain.ask(WORD, image=view, max_tokens=2)
    view.visual[0] += 1
    changed = asked(plain, seen, WORD, image=view)
    assert changed.answer.cached_tokens == 0
    assert changed.logits == fresh(plain, seen, WORD, image=view).logits


def test_a_refused_request_leaves_what_was_there(plain: Model, seen: list[bytes]) -> None:
    view = plain.see(picture(), budget="1.0")
    expected = fresh(plain, seen, WORD, image=view)
    with pytest.raises(PromptError):
        plain.ask("red " * 5000, template=False)
    again = asked(plain, seen, WORD, image=view)
    assert again.logits == expected.logits and again.answer.cached_tokens >= CHUNK


def test_a_stream_that_was_left_leaves_its_prompt(plain: Model, seen: list[bytes]) -> None:
    view = plain.see(picture(), budget="1.0")
    expected = fresh(plain, seen, NUMBER, image=view)
    stream = plain.stream(WORD, image=view, max_tokens=50, stop=False)
    next(stream), next(stream)
    stream.close()
    second = asked(plain, seen, NUMBER, image=view)
    assert second.logits == expected.logits and second.answer.cached_tokens >= CHUNK


def test_forgetting_does_not_disturb_a_stream(plain: Model, seen: list[bytes]) -> None:
    expected = fresh(plain, seen, WORD, image=picture(), max_tokens=8).answer.token_ids
    stream = plain.stream(WORD, image=picture(), max_tokens=8, stop=False)
    next(stream)
    plain.forget()
    *_, last = stream
    assert last.answer is not None and last.answer.token_ids == expected


def test_a_stream_does_not_go_on_over_what_another_request_left(plain: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that request failed: the cache is no longer the stream's."""
    stream = plain.stream(WORD, image=picture(), max_tokens=50, stop=False)
    next(stream)

    def fails(self: Chain, *_: Any) -> None:
        raise RequestError("no memory")

    with monkeypatch.context() as patched, pytest.raises(RequestError, match="no memory"):
        patched.setattr(Chain, "run", fails)
        plain.ask(NUMBER, max_tokens=1)
    with pytest.raises(RequestError, match="another request was started before this stream ended"):
        list(stream)


def test_a_model_without_reuse_computes_every_prompt_whole(seen: list[bytes]) -> None:
    with Model.open(BUNDLES["fp32"](), threads=1, reuse=False) as model:
        view = model.see(picture(), budget="1.0")
        first, second = (asked(model, seen, WORD, image=view) for _ in range(2))
        assert first.logits == second.logits
        assert (first.answer.cached_tokens, second.answer.cached_tokens, model.language.kept_bytes) == (0, 0, 0)


def test_a_closed_model_keeps_no_rows_and_forgets_no_more() -> None:
    with Model.open(BUNDLES["fp32"](), threads=1) as model:
        view: View = model.see(picture(), budget="1.0")
        model.ask(WORD, image=view, max_tokens=1)
        language: weakref.ref[LanguageModel] = weakref.ref(model.language)
    gc.collect()
    assert language() is None
    with pytest.raises(RequestError, match="closed"):
        model.forget()
