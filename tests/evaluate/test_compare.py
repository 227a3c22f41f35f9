from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeprune.evaluate import AnswerLog, Question, Selection, answer_all, compare
from edgeprune_profiles import load_accuracy
from edgeprune_runtime.errors import MeasurementError, PromptError

FULL = Selection("1.0", "full", 1.0)
HIRED = Selection("hired@0.2", "hired", 0.2, 576)
RANDOM = Selection("random@0.2", "random", 0.2, 576)
ALL = [FULL, HIRED, RANDOM]
QUESTIONS = [
    Question(i, Path(f"/p/{i // 2}.png"), f"{i // 2}.png", f"q{i}", ("yes",), "word" if i % 2 else "digit")
    for i in range(16)
]
#: Two questions about each picture, those to one selection of it one after the other: a cache holds what the first left.
IN_TURN = [(f"q{2 * picture + n}", s.name) for picture in range(8) for s in ALL for n in range(2)]
ABOUT = {"data": "d1", "bundle": "b1"}


class FakeAnswerer:
    """Full budget is right about all, hired about even questions, random about none. Counts requests."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._fail_after = fail_after

    def answer(self, image: Path, question: str, selection: str) -> str:
        if len(self.asked) == self._fail_after:
            raise KeyboardInterrupt
        self.asked.append((question, selection))
        number = int(question[1:])
        return "yes" if selection == "1.0" or (selection.startswith("hired") and number % 2 == 0) else "no"


def run(path, answerer, questions=QUESTIONS, about=ABOUT, **options):
    with AnswerLog(path, about) as log:
        return answer_all(questions, ALL, answerer, log, **options)


@pytest.fixture
def comparison(tmp_path):
    return compare(QUESTIONS, ALL, run(tmp_path / "a.jsonl", FakeAnswerer()), data="q.jsonl")


def test_scores_and_paired_differences_of_every_selection(comparison):
    full, hired, random = comparison.rows
    assert (full.scores["exact_match"], hired.scores["exact_match"], random.scores["exact_match"]) == (1.0, 0.5, 0.0)
    assert full.differences == {}
    assert hired.differences["exact_match"].point == -0.5
    assert hired.differences["exact_match"].clusters == 8
    assert random.differences["exact_match"].point == -1.0
    assert random.differences["exact_match"].distinguishable
    assert (comparison.images, comparison.questions, comparison.headline) == (8, 16, "exact_match")


def test_scores_by_kind_of_question(comparison):
    assert comparison.rows[1].kinds == {"digit": 1.0, "word": 0.0}


def test_the_json_form_is_what_a_report_reads(comparison, tmp_path):
    (tmp_path / "accuracy.json").write_bytes(msgspec.json.encode(comparison))
    section = load_accuracy(tmp_path / "accuracy.json")
    assert msgspec.to_builtins(section) == msgspec.to_builtins(comparison)


@pytest.mark.parametrize("absent", ["exact_match", "anls"])
def test_an_evaluation_in_which_a_score_is_missing_is_refused(comparison, absent, tmp_path):
    """The headline, or one that other rows have."""
    table = msgspec.to_builtins(comparison)
    del table["rows"][1]["scores"][absent]
    (tmp_path / "accuracy.json").write_bytes(msgspec.json.encode(table))
    with pytest.raises(MeasurementError, match=rf"{table['rows'][1]['name']} has no score in {absent}"):
        load_accuracy(tmp_path / "accuracy.json")


@pytest.mark.parametrize("text", ['{"rows": []}', "[" * 100_000])
def test_what_is_no_evaluation_is_refused(text, tmp_path):
    (tmp_path / "accuracy.json").write_text(text)
    with pytest.raises(MeasurementError, match="not a usable evaluation"):
        load_accuracy(tmp_path / "accuracy.json")


def test_a_killed_evaluation_goes_on_where_it_stopped(tmp_path):
    first, second = FakeAnswerer(fail_after=20), FakeAnswerer()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.jsonl", first)
    answers = run(tmp_path / "a.jsonl", second)
    assert len(first.asked) == 20
    assert first.asked + second.asked == IN_TURN
    assert answers == run(tmp_path / "b.jsonl", FakeAnswerer())


def test_a_torn_last_line_is_asked_again(tmp_path):
    run(tmp_path / "a.jsonl", FakeAnswerer())
    whole = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(whole[:-5])
    again = FakeAnswerer()
    run(tmp_path / "a.jsonl", again)
    assert again.asked == [("q15", "random@0.2")]
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_a_torn_first_line_starts_anew(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"abo')
    run(tmp_path / "a.jsonl", FakeAnswerer())
    assert len((tmp_path / "a.jsonl").read_bytes().splitlines()) == 1 + 16 * 3


def test_a_broken_line_in_the_middle_is_refused(tmp_path):
    run(tmp_path / "a.jsonl", FakeAnswerer())
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    lines[3] = b"garbage"
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(MeasurementError, match="line 4"):
        run(tmp_path / "a.jsonl", FakeAnswerer())


def test_answers_of_another_bundle_are_refused(tmp_path):
    run(tmp_path / "a.jsonl", FakeAnswerer())
    with pytest.raises(MeasurementError, match="bundle differ"):
        run(tmp_path / "a.jsonl", FakeAnswerer(), about={**ABOUT, "bundle": "b2"})


def test_a_request_that_fails_counts_as_wrong_and_is_counted(tmp_path):
    class Refusing(FakeAnswerer):
        def answer(self, image, question, selection):
            if (question, selection) == ("q0", "1.0"):
                raise PromptError("too long")
            return super().answer(image, question, selection)

    answers = run(tmp_path / "a.jsonl", Refusing())
    assert answers[0, "1.0"].error == "too long"
    full = compare(QUESTIONS, ALL, answers, data="q").rows[0]
    assert full.errors == 1
    assert full.scores["exact_match"] == 15 / 16


def test_progress_tells_how_far(tmp_path):
    seen = []
    run(tmp_path / "a.jsonl", FakeAnswerer(), progress=lambda done, total, label: seen.append((done, total)))
    assert seen == [(i, 48) for i in range(49)]


def test_several_reference_answers_make_vqa_accuracy_the_headline(tmp_path):
    several = [Question(q.number, q.image, q.image_name, q.question, ("yes", "yeah"), None) for q in QUESTIONS]
    answers = run(tmp_path / "a.jsonl", FakeAnswerer(), several)
    assert compare(several, ALL, answers, data="q").headline == "vqa_accuracy"
    assert compare(several, ALL, answers, data="q", headline="anls").headline == "anls"
    with pytest.raises(MeasurementError, match="unknown metric"):
        compare(several, ALL, answers, data="q", headline="bleu")


def test_without_full_budget_there_are_scores_and_no_differences(tmp_path):
    answers = run(tmp_path / "a.jsonl", FakeAnswerer())
    (row,) = compare(QUESTIONS, [HIRED], answers, data="q").rows
    assert (row.scores["exact_match"], row.differences) == (0.5, {})


def test_the_first_method_is_held_against_every_other_at_its_ratio(comparison):
    full, hired, random = comparison.rows
    assert hired.over["random"].point == 0.5
    assert (full.over, random.over) == ({}, {})


def test_questions_about_one_picture_are_asked_together(tmp_path):
    mixed = [*QUESTIONS[::2], *QUESTIONS[1::2]]
    answerer = FakeAnswerer()
    run(tmp_path / "a.jsonl", answerer, mixed)
    assert [question for question, _ in answerer.asked[::3]] == [q.question for q in QUESTIONS]


def test_a_selection_given_twice_is_refused(tmp_path):
    with AnswerLog(tmp_path / "a.jsonl", ABOUT) as log, pytest.raises(MeasurementError, match="same name"):
        answer_all(QUESTIONS, [FULL, FULL], FakeAnswerer(), log)
