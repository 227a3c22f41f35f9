"""A method of your own: the tokens that differ most from the mean of their tile."""

from edgeprune.tokens import combine, select
from edgeprune.tokens.methods import Method


def reduce(outputs, keep, plan):
    unusual = (outputs.features - outputs.features.mean(dim=1, keepdim=True)).norm(dim=2)  # [T, N]
    return combine.drop(select.by_score(unusual, outputs.slot, keep))


UNUSUAL = Method("unusual", "tokens far from the mean of their tile", "docs/examples/mine.py", reduce)
