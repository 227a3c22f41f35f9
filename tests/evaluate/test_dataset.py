from __future__ import annotations

import json

import pytest

from edgeprune.evaluate.dataset import load_questions
from edgeprune_runtime.errors import MeasurementError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    (tmp_path / "data" / "pictures" / "a.png").write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    return tmp_path / "data"


def write(folder, *lines):
    path = folder / "q.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_reads_lists_and_single_answers(folder):
    path = write(
        folder,
        {"image": "pictures/a.png", "question": "what?", "answers": ["x", "y"], "kind": "word", "extra": 1},
        "",
        {"image": "pictures/a.png", "question": "where?", "answer": "z"},
    )
    first, second = load_questions(path)
    assert (first.number, first.answers, first.kind) == (0, ("x", "y"), "word")
    assert (second.number, second.answers, second.kind) == (1, ("z",), None)
    assert first.image == (folder / "pictures" / "a.png").resolve()
    assert first.image_name == "pictures/a.png"


GOOD = {"image": "pictures/a.png", "question": "what?", "answer": "x"}


@pytest.mark.parametrize(("line", "message"), [
    ("{", "expected"), ("[]", "expected"), ('{"image": 3}', "expected"),
    ({**GOOD, "image": "../secret.png"}, "outside"), ({**GOOD, "image": "/etc/hostname"}, "outside"),
    ({**GOOD, "image": "pictures/b.png"}, "does not exist"), ({**GOOD, "image": "pictures"}, "does not exist"),
    ({**GOOD, "question": "  "}, "empty"), ({**GOOD, "answer": None}, "no reference answer"),
    ({"image": "pictures/a.png", "question": "what?", "answers": []}, "no reference answer"),
])  # fmt: skip
def test_a_bad_line_is_named_by_file_and_line(folder, line, message):
    with pytest.raises(MeasurementError, match=rf"q\.jsonl, line 2: .*{message}"):
        load_questions(write(folder, GOOD, line))


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(MeasurementError, match="outside"):
        load_questions(write(folder, {**GOOD, "image": "link.png"}))


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "q.jsonl").write_bytes(b'{"image": "\xff\xfe"}\n')
    with pytest.raises(MeasurementError, match="line 1"):
        load_questions(folder / "q.jsonl")


def test_an_empty_file_and_a_missing_file_are_refused(folder):
    with pytest.raises(MeasurementError, match="no questions"):
        load_questions(write(folder, "", "  "))
    with pytest.raises(MeasurementError, match=r"absent\.jsonl"):
        load_questions(folder / "absent.jsonl")
