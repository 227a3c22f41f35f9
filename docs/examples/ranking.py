"""Rows of the language model with the largest values stay."""

from edgeprune.tokens.inside.rows import LanguageCut


def rank(rows, settings):
    return rows["value"].norm(dim=2).mean(dim=1)


LARGE = LanguageCut(
    "large", "rows with small values", "docs/examples/ranking.py", rank=rank, reads=frozenset({"values"})
)
