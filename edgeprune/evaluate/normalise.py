"""Bring short answers into one form before they are compared, by the rules of the VQA challenge.

The rules, as the challenge states them (visualqa.org, "Evaluation"): lower case, periods dropped except inside numbers,
number words up to ten as digits, articles dropped, missing apostrophes of contractions put back, all other punctuation
made a space, except that it vanishes where a space stands beside it or the text has a number such as 100,978; the
apostrophe and the colon stay. Here they are applied to prediction and reference alike, and contractions of three words
(shouldn't've) are left as they are.
"""

from __future__ import annotations

import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = {
    word: str(value)
    for value, words in enumerate(
        ("zero none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
    for word in words.split()
}
ARTICLES = frozenset({"a", "an", "the"})

_NOT = "ai are ca could did does do had has have is might must need sha should was were wo would"
_ENDINGS = {
    "'ve": "could i might must not should they we what where who would you",
    "'re": "they what who you",
    "'s": "he how she somebody someone something that there what when where who",
    "'ll": "how it somebody someone something they what who you",
    "'d": "everybody he how it not somebody someone something that there they when where who you",
    "'m": "i",
}
CONTRACTIONS = (
    {f"{stem}nt": f"{stem}n't" for stem in _NOT.split()}
    | {stem + end.replace("'", ""): stem + end for end, stems in _ENDINGS.items() for stem in stems.split()}
    | {"maam": "ma'am", "oclock": "o'clock", "yall": "y'all", "twas": "'twas"}
)
"""Spelling without apostrophe -> spelling with it. Words with a meaning of their own (its, well, ill) are out."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD_OUTSIDE_NUMBER = re.compile(r"\.(?!\d)")


def squeeze(text: str) -> str:
    """Lower case, single spaces, none at the ends."""
    return " ".join(text.lower().split())


def normalise(text: str) -> str:
    """The form in which two answers are the same answer."""
    text = squeeze(text)
    glued = _COMMA_IN_NUMBER.search(text) is not None
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        text = text.replace(mark, "" if glued or beside_space else " ")
    words = _PERIOD_OUTSIDE_NUMBER.sub("", text).split()
    digits = [NUMBERS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in digits if word not in ARTICLES)
