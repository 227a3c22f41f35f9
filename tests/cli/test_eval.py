from __future__ import annotations

import json

import pytest

from edgeprune_profiles import load_accuracy
from edgeprune_runtime.vision import Vision
from tests.commands import answer, complaint, invoke

QUICK = ["--budget", "0.2", "--max-tokens", 1, "--threads", 1]


def test_controls_stand_beside_the_method_at_the_same_k_and_full_budget_leads(evaluated):
    rows = evaluated[1]["rows"]
    assert rows[0]["name"] == "1.0"
    assert {row["name"] for row in rows} == {"1.0", "hired@0.2", "random@0.2", "uniform@0.2", "downsample@0.2"}
    assert rows[1]["method"] == "hired"
    assert {row["keep"] for row in rows[1:]} == {36}


def test_differences_are_paired_with_full_budget_by_picture(evaluated):
    full, hired = evaluated[1]["rows"][:2]
    assert full["differences"] == {}
    assert set(hired["differences"]) == {"exact_match", "vqa_accuracy", "anls"}
    assert (hired["differences"]["anls"]["n"], hired["differences"]["anls"]["clusters"]) == (6, 3)
    assert set(hired["over"]) == {"random", "uniform", "downsample"}


def test_what_decided_the_answers_is_recorded(evaluated):
    path, found = evaluated
    assert found["settings"]["positions"] == "keep"
    assert found["settings"]["separators"] == "all"
    assert load_accuracy(path).settings == found["settings"]


def test_kinds_are_scored_apart(evaluated):
    assert all(set(row["kinds"]) == {"object", "count"} for row in evaluated[1]["rows"])


def test_a_picture_is_encoded_once_for_all_selections_and_questions(tiny_bundle, questions, monkeypatch):
    encoded = []
    encode = Vision.encode
    monkeypatch.setattr(Vision, "encode", lambda self, *seen: (encoded.append(1), encode(self, *seen))[1])
    answer("eval", tiny_bundle, "--data", questions, *QUICK)
    assert len(encoded) == 3


def test_an_interrupted_evaluation_goes_on_from_its_log(tiny_bundle, questions, tmp_path):
    log = tmp_path / "log.jsonl"
    first = answer("eval", tiny_bundle, "--data", questions, *QUICK, "--answers", log)
    whole = log.read_bytes()
    log.write_bytes(b"\n".join(whole.splitlines()[:-4]))  # and half a line
    assert answer("eval", tiny_bundle, "--data", questions, *QUICK, "--answers", log) == first
    assert sorted(log.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_answers_under_another_policy_are_not_mixed(tiny_bundle, questions, tmp_path):
    log = tmp_path / "log.jsonl"
    found = answer("eval", tiny_bundle, "--data", questions, *QUICK, "--limit-questions", 1, "--answers", log)
    assert found["questions"] == 1
    options = ["--positions", "renumber", "--separators", "none", "--answers", log]
    line = complaint("eval", tiny_bundle, "--data", questions, *QUICK, *options)
    assert "positions, separators differ" in line


def test_the_policies_can_be_chosen_for_a_comparison(tiny_bundle, questions):
    options = ["--positions", "renumber", "--separators", "rows", "--method", "hired", "--limit-questions", 2]
    found = answer("eval", tiny_bundle, "--data", questions, *QUICK, *options, "--metric", "anls")
    assert (found["settings"]["positions"], found["settings"]["separators"]) == ("renumber", "rows")
    assert [row["name"] for row in found["rows"]] == ["1.0", "hired@0.2"]
    assert found["headline"] == "anls"


def test_a_picture_that_cannot_be_read_counts_as_no_answer(tiny_bundle, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    line = {"image": "torn.png", "question": "what ?", "answers": ["a"]}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    found = answer("eval", tiny_bundle, "--data", tmp_path / "q.jsonl", *QUICK)
    assert [row["errors"] for row in found["rows"]] == [1] * 5


def test_people_get_tables(tiny_bundle, questions):
    result = invoke("eval", tiny_bundle, "--data", questions, *QUICK)
    assert result.exit_code == 0, result.output
    for text in (
        "Accuracy by selection",
        "Lead over the other methods",
        "by kind of question",
        "3 pictures",
        "reference",
    ):
        assert text in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--budget", "0.3"], "no budget '0.3'"), (["--method", "clever"], "no method 'clever'")],
)
def test_mistakes_are_one_line(tiny_bundle, questions, options, text):
    assert text in complaint("eval", tiny_bundle, "--data", questions, *options)


def test_missing_questions_are_one_line(tiny_bundle, tmp_path):
    said = complaint("eval", tiny_bundle, "--data", tmp_path / "no.jsonl")
    assert said.endswith("no.jsonl: no such file or directory") and "Errno" not in said


def test_limits_of_tiles_are_scored_beside_all_of_them(tiny_bundle, questions):
    options = ["--method", "uniform", "--tiles", "none", "--limit-questions", 2]
    rows = answer("eval", tiny_bundle, "--data", questions, *options, *QUICK)["rows"]
    assert [row["name"] for row in rows] == ["1.0", "uniform@0.2", "1.0 on one view", "uniform@0.2 on one view"]
    assert rows[0]["differences"] == {} and all(row["differences"] for row in rows[1:])


def test_all_tokens_of_fewer_tiles_are_no_reference(tiny_bundle, questions):
    options = ["--method", "uniform", "--tiles", "none", "--limit-questions", 2]
    text = invoke("eval", tiny_bundle, "--data", questions, *options, *QUICK).stdout
    assert text.count("reference") == 1
    (row,) = [line for line in text.splitlines() if line.startswith("1.0 on one view") and "[" in line]
    assert "pictures" in row
