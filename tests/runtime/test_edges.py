"""Values that mean nothing are typed errors of the one tree, each with what was expected; the model stays usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_runtime import Model, Sampling, Turn
from edgeprune_runtime.errors import (
    BackendUnavailable,
    BudgetError,
    BundleError,
    EdgepruneError,
    ImageError,
    PlanError,
    PromptError,
    RequestError,
)
from edgeprune_runtime.prompting.requests import Request

PICTURE = np.zeros((8, 8, 3), np.uint8)
NAN = float("nan")


@pytest.mark.parametrize("prompt", ["", "  \n", None, 5, b"what", ["what"]])
def test_a_prompt_is_text_that_says_something(opened: Model, prompt: Any) -> None:
    with pytest.raises(PromptError, match="expected text|ask something"):
        opened.ask(prompt)
    with pytest.raises(PromptError):
        opened.ask(prompt, image=PICTURE)
    if prompt is not None:
        with pytest.raises(PromptError):
            opened.see(PICTURE, question=prompt)


@pytest.mark.parametrize(
    "prompt", [[], (), [Turn("user", "what ?"), "more"], [Turn("user", None)], [Turn("user", " ")], {}]
)
def test_a_dialogue_is_turns_that_say_something(opened: Model, prompt: Any) -> None:
    with pytest.raises(PromptError, match="expected text|ask something"):
        opened.ask(prompt)


def test_a_dialogue_and_a_list_of_pictures_pass_where_a_question_and_a_picture_do() -> None:
    for prompt in ("what ?", "<image>", [Turn("user", "what ?"), Turn("assistant", ""), Turn("user", "<image>")]):
        Request(prompt, image=[PICTURE, PICTURE], max_tokens=1).check()
    assert len(Request("what ?", image=[PICTURE, PICTURE]).images) == 2
    assert Request("what ?", image=PICTURE).images == (PICTURE,) and Request("what ?").images == ()


def test_a_picture_asked_about_without_a_word_is_answered(opened: Model) -> None:
    """A question is for methods that look at it; a mark alone is a prompt and no question."""
    answer = opened.ask("<image>", image=PICTURE, max_tokens=1)
    assert answer.token_ids and opened.ask([Turn("user", "<image>")], image=[PICTURE], max_tokens=1).token_ids


@pytest.mark.parametrize("wrong", [0, -1, 1.0, 1.5, "1", None, True, NAN, [1]])
def test_max_tokens_is_a_whole_number_from_one(opened: Model, wrong: Any) -> None:
    with pytest.raises(RequestError, match="max_tokens"):
        opened.ask("what ?", max_tokens=wrong)


@pytest.mark.parametrize("wrong", [-1, 1.0, "1", True, NAN])
def test_tiles_is_a_whole_number(opened: Model, wrong: Any) -> None:
    with pytest.raises(RequestError, match="tiles"):
        opened.see(PICTURE, tiles=wrong)
    with pytest.raises(RequestError, match="tiles"):
        opened.ask("what ?", image=PICTURE, tiles=wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": NAN}, {"temperature": -1}, {"temperature": "hot"}, {"temperature": None}, {"temperature": float("inf")},
        {"top_p": NAN}, {"top_p": 0}, {"top_p": "all"}, {"top_p": True}, {"seed": -1}, {"seed": 1.5}, {"seed": "1"}, {"seed": None},
    ],
)  # fmt: skip
def test_sampling_takes_numbers(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Sampling(**wrong)


@pytest.mark.parametrize("wrong", [None, "greedy", 0.5, {"temperature": 0.5}])
def test_sampling_is_a_sampling(opened: Model, wrong: Any) -> None:
    with pytest.raises(RequestError, match="sampling"):
        opened.ask("what ?", sampling=wrong)


@pytest.mark.parametrize(
    "wrong",
    [5, 1.5, ["a.png"], [None], {}, object(), np.zeros(3), np.zeros((2, 2, 7), np.uint8), b"", "", Path("nowhere.png")],
)
def test_a_picture_is_a_picture(opened: Model, wrong: Any) -> None:
    with pytest.raises(ImageError):
        opened.see(wrong)
    with pytest.raises(ImageError):
        opened.ask("what ?", image=wrong)


@pytest.mark.parametrize("wrong", [NAN, float("inf"), -1, "", "half", [0.2], {}, 10**400, object()])
def test_a_budget_is_one_of_the_bundle(opened: Model, wrong: Any) -> None:
    with pytest.raises(BudgetError, match="has no budget"):
        opened.see(PICTURE, budget=wrong)
    with pytest.raises(BudgetError, match="has no budget"):
        opened.budget_label(wrong)


@pytest.mark.parametrize("wrong", ["nobody", 5, ["hired"], object()])
def test_a_method_is_one_of_the_bundle(opened: Model, wrong: Any) -> None:
    with pytest.raises(BudgetError, match="has no method"):
        opened.see(PICTURE, method=wrong)


@pytest.mark.parametrize("wrong", [{"positions": "new"}, {"separators": None}, {"separators": ["all"]}])
def test_policies_are_those_that_there_are(opened: Model, wrong: Any) -> None:
    with pytest.raises(RequestError, match="unknown"):
        opened.set_policies(**{"positions": "keep", "separators": "all", **wrong})


@pytest.mark.parametrize("wrong", [-1, 1.5, "2", None, True, NAN, 257, 10**9])
def test_threads_is_a_whole_number(tiny_bundle: Path, wrong: Any) -> None:
    with pytest.raises(PlanError, match="threads"):
        Model.open(tiny_bundle, threads=wrong)


@pytest.mark.parametrize("wrong", ["onnx", "", 5, None, ["onnxruntime"]])
def test_a_backend_is_one_that_there_is(tiny_bundle: Path, wrong: Any) -> None:
    with pytest.raises(BackendUnavailable, match="unknown backend"):
        Model.open(tiny_bundle, backend=wrong)


@pytest.mark.parametrize("wrong", [None, 5, ["bundle"], b"bundle", object(), "", "\0"])
def test_a_bundle_is_a_path(wrong: Any) -> None:
    with pytest.raises(BundleError):
        Model.open(wrong)


def test_a_closed_model_says_so_everywhere(tiny_bundle: Path) -> None:
    with Model.open(tiny_bundle, threads=1) as model:
        view = model.see(PICTURE)
    model.close()
    for use in (
        lambda: model.ask("what ?"),
        lambda: model.ask("what ?", image=view),
        lambda: model.see(PICTURE),
        lambda: model.see_each(PICTURE, [(None, None)]),
        lambda: next(model.stream("what ?")),
        lambda: model.set_policies(positions="keep", separators="all"),
        lambda: model.__enter__(),
    ):
        with pytest.raises(RequestError, match="closed"):
            use()
    assert model.budgets and model.methods(model.budgets[0]) and model.budget_label(0.2) == "0.2"


def test_after_every_refusal_the_model_answers(opened: Model) -> None:
    with pytest.raises(EdgepruneError):
        opened.ask("", image=PICTURE)
    assert opened.ask("what ?", image=PICTURE, max_tokens=1).token_ids
