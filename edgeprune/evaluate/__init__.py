"""Does an answer stay right when tokens are dropped? Metrics, data, and paired comparison against full budget."""

from edgeprune.evaluate.answers import AnswerLog
from edgeprune.evaluate.compare import Answerer, Comparison, MethodRow, Selection, answer_all, compare, pending
from edgeprune.evaluate.dataset import Question, load_questions
from edgeprune.evaluate.metrics import METRICS, anls, exact_match, vqa_accuracy
from edgeprune_runtime.statistics import PairedDifference, paired_difference

__all__ = [
    "METRICS",
    "AnswerLog",
    "Answerer",
    "Comparison",
    "PairedDifference",
    "Question",
    "MethodRow",
    "Selection",
    "anls",
    "answer_all",
    "compare",
    "exact_match",
    "load_questions",
    "paired_difference",
    "pending",
    "vqa_accuracy",
]
