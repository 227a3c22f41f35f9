"""The pure parts of tools/arm64_check; the check itself takes a quarter of an hour and root (docs/measurements/arm64.md)."""

from __future__ import annotations

from typing import Any

import pytest

from tools.arm64_check import guest
from tools.arm64_check.answers import BUDGETS, CASES, CPUS, differences
from tools.arm64_check.wheels import BASE, BOARDS, DEBIAN


def answer(**changes: Any) -> dict[str, Any]:
    fixed = {"prompt": "which?", "budget": "0.2", "method": "hired", "token_ids": [48, 2], "text": "king"}
    counts = {"finish_reason": "stop", "visual_tokens": 2, "prompt_tokens": 9, "kept": [[0, 0, 1], [0, 1, 3]]}
    return {**fixed, **counts, "image": "here.png", "timings": {"ttft_s": 1.0}, **changes}


def test_answers_that_differ_only_in_path_and_time_are_the_same() -> None:
    assert differences([answer()], [answer(image="there.png", timings={"ttft_s": 99.0})]) == ()


@pytest.mark.parametrize(
    ("key", "value"), [("token_ids", [48, 3]), ("kept", [[0, 0, 1], [0, 1, 4]]), ("text", "kin"), ("prompt_tokens", 8)]
)
def test_another_token_anywhere_is_told(key: str, value: Any) -> None:
    (sentence,) = differences([answer()], [answer(**{key: value})])
    assert sentence == f"{key} of 'which?' at budget 0.2: {value!r} instead of {answer()[key]!r}"


def test_a_missing_answer_is_told() -> None:
    assert differences([answer(), answer()], [answer()]) == ("1 answers instead of 2",)


def test_every_processor_answers_at_every_budget_and_every_board_once() -> None:
    assert {(case.cpu, case.budget) for case in CASES if case.environment == BASE} == {
        (cpu, budget) for cpu in CPUS for budget in BUDGETS
    }
    assert [case.environment for case in CASES if case.environment != BASE] == list(BOARDS)


def test_no_wheel_is_taken_that_needs_a_newer_c_library() -> None:
    platforms = [option for option in DEBIAN.pip_options() if option.startswith("--platform=")]
    assert "--platform=manylinux_2_36_aarch64" in platforms
    assert "--platform=manylinux_2_38_aarch64" not in platforms


def test_a_missing_program_is_named_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest.shutil, "which", lambda name: None if name == "unshare" else f"/bin/{name}")
    with pytest.raises(guest.Refused, match="needs unshare: "):
        guest.refuse_early()


def test_an_ordinary_user_is_told_to_become_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(guest.os, "geteuid", lambda: 1000)
    with pytest.raises(guest.Refused, match="root"):
        guest.refuse_early()
