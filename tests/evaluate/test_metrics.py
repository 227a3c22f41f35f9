from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.evaluate.metrics import METRICS, anls, exact_match, levenshtein, vqa_accuracy
from edgeprune.evaluate.normalise import normalise

# A small alphabet: what the rules look at, and far faster than all of Unicode.
TEXT = st.text("aAbTthe ,.-'109É\n", max_size=12)
TEN = ["red"] * 3 + ["dark red"] * 2 + ["maroon"] * 4 + ["brown"]


@pytest.mark.parametrize(("text", "form"), [
    ("  The Red   Car ", "red car"),
    ("Two", "2"), ("none", "0"), ("ten apples", "10 apples"), ("eleven", "eleven"),
    ("dont know", "don't know"), ("its", "its"), ("Im", "i'm"),
    ("yes.", "yes"), ("3.5", "3.5"), ("u.s.a.", "usa"), (".5", ".5"),
    ("1,000", "1000"), ("red, blue", "red blue"), ("red,blue", "red blue"), ("left-hand", "left hand"),
    ("really ?!", "really"), ("10:30", "10:30"), ("women's", "women's"), ("line\nbreak\ttab", "line break tab"),
    ("", ""), ("the", ""),
])  # fmt: skip
def test_normal_form(text, form):
    assert normalise(text) == form


@given(TEXT)
def test_letter_case_and_outer_spaces_never_matter(text):
    assert normalise(f"  {text} ") == normalise(text.lower())


@pytest.mark.parametrize(("prediction", "answers", "score"), [
    ("The red car.", ["red car"], 1.0), ("two", ["2"], 1.0), ("red", ["blue", "Red"], 1.0), ("reddish", ["red"], 0.0),
    ("", ["red"], 0.0), ("red", [], 0.0),
])  # fmt: skip
def test_exact_match_after_normalisation(prediction, answers, score):
    assert exact_match(prediction, answers) == score


def test_vqa_accuracy_averages_over_leaving_one_annotator_out():
    # 4 said it: leaving any one out leaves at least 3
    assert vqa_accuracy("maroon", TEN) == 1.0
    # 3 said it: leaving one of them out (3 of 10 times) leaves 2 of the 3 needed, else all 3
    assert vqa_accuracy("red", TEN) == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)
    # 2 said it: 2 times 1/3, 8 times 2/3
    assert vqa_accuracy("dark red", TEN) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    # 1 said it: once 0, 9 times 1/3. The challenge's familiar 0.3
    assert vqa_accuracy("brown", TEN) == pytest.approx(0.3)
    assert vqa_accuracy("green", TEN) == 0.0


@pytest.mark.parametrize(("answers", "score"), [
    (["red"], 1.0), (["blue"], 0.0), (["red", "blue", "blue"], 1.0),
    (["red", "blue", "blue", "blue", "blue"], 1 / 1.5), (["red", "red", "blue", "blue", "blue"], 1.0), ([], 0.0),
])  # fmt: skip
def test_vqa_accuracy_with_fewer_than_ten_asks_for_the_same_share(answers, score):
    assert vqa_accuracy("red", answers) == pytest.approx(score)


@pytest.mark.parametrize(("a", "b", "distance"), [
    ("kitten", "sitting", 3), ("saturday", "sunday", 3), ("flaw", "lawn", 2), ("", "abc", 3), ("abc", "", 3),
    ("a", "a", 0), ("intention", "execution", 5),
])  # fmt: skip
def test_edit_distance_of_textbook_pairs(a, b, distance):
    assert levenshtein(a, b) == distance


@given(TEXT, TEXT, TEXT)
def test_edit_distance_is_a_metric(a, b, c):
    assert levenshtein(a, b) == levenshtein(b, a)
    assert (levenshtein(a, b) == 0) == (a == b)
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)


@pytest.mark.parametrize(("prediction", "answers", "score"), [
    # strings of the examples in the metric card of Hugging Face evaluate (huggingface/evaluate, metrics/anls)
    ("Denver Broncos", ["Denver Broncos", "Denver R. Broncos"], 1.0),
    ("12/15/89", ["12/15/88"], 7 / 8),
    ("Dear dr. Lobo", ["Dear Dr. Lobo", "Dr. Lobo"], 1.0),
    # the example of the ANLS* package (arXiv 2402.03848)
    ("Hello Wrld", ["Hello World"], 10 / 11),
    ("abcd", ["abxy"], 0.5),  # exactly at the threshold
    ("abcde", ["abxyz"], 0.0),  # 0.4
    ("", [""], 1.0), ("", ["x"], 0.0), ("x", [], 0.0), ("two  words", ["Two Words"], 1.0),
])  # fmt: skip
def test_anls_of_published_and_hand_computed_examples(prediction, answers, score):
    assert anls(prediction, answers) == pytest.approx(score)


@given(TEXT, st.lists(TEXT, max_size=12))
def test_every_metric_stays_between_zero_and_one(prediction, answers):
    assert all(0.0 <= metric(prediction, answers) <= 1.0 for metric in map(METRICS.get, METRICS))


@given(TEXT)
def test_saying_what_all_said_is_right(text):
    assert all(metric(text, [text] * 10) == 1.0 for metric in map(METRICS.get, METRICS))
