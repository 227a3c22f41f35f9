"""Score one prediction against its reference answers, in 0..1.

exact_match   1 when the prediction equals any reference after normalisation.
vqa_accuracy  VQA challenge (Antol et al. 2015; Goyal et al. 2017): right when 3 of 10 people said so.
anls          ST-VQA / DocVQA (Biten et al. 2019): forgiving towards reading slips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeprune.evaluate.normalise import normalise, squeeze
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.registry import Registry

MetricFunction = Callable[[str, Sequence[str]], float]

ANLS_THRESHOLD = 0.5


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 when the prediction, normalised, is one of the answers, else 0.0."""
    return float(normalise(prediction) in {normalise(answer) for answer in answers})


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The rule of ten annotators: min(1, matches / 3), averaged over leaving out each annotator in turn.

    Leaving one out only makes sense with as many as the rule was made for. With fewer than ten answers the score is
    min(1, matches / max(1, 0.3 n)): the same 30 % of the annotators, and one match when there is a single answer.
    """
    said = normalise(prediction)
    matches = [normalise(answer) == said for answer in answers]
    if not matches:
        return 0.0
    if len(matches) < 10:
        return min(1.0, sum(matches) / max(1.0, 0.3 * len(matches)))
    return sum(min(1.0, (sum(matches) - left_out) / 3) for left_out in matches) / len(matches)


def anls(prediction: str, answers: Sequence[str]) -> float:
    """1 - NL of the nearest answer, where NL is the edit distance over the longer length; 0 when that is below 0.5.

    Case and repeated spaces do not count. A similarity of exactly 0.5 counts, as on the challenge's server, whose
    numbers are the published ones; the formula in the paper would make it 0.
    """
    said = squeeze(prediction)
    return max((_similarity(said, squeeze(answer)) for answer in answers), default=0.0)


def levenshtein(a: str, b: str) -> int:
    """Fewest insertions, deletions and replacements of one character that turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def _similarity(a: str, b: str) -> float:
    longest = max(len(a), len(b))
    similarity = 1.0 - levenshtein(a, b) / longest if longest else 1.0
    return similarity if similarity >= ANLS_THRESHOLD else 0.0


METRICS: Registry[MetricFunction] = Registry("metric", group="edgeprune.metrics", error=MeasurementError)
for _name, _metric in {"exact_match": exact_match, "vqa_accuracy": vqa_accuracy, "anls": anls}.items():
    METRICS.add(_name, _metric)
