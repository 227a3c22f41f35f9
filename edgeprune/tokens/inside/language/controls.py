"""Controls: what any ranking inside the language model must beat, and the least that a stage can get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.later import torch
from edgeprune.tokens.inside.rows import LanguageCut, LanguageRows
from edgeprune.tokens.registry.method import Setting

if TYPE_CHECKING:
    from torch import Tensor

_SEED = Setting("seed", 0, "of the draw, a whole number", whole=True)


def _random(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    """Seeded noise, the same for every prompt."""
    seed = int(settings.get(_SEED.name, _SEED.default))
    return torch.from_numpy(np.random.default_rng(seed).random(rows.visual.shape[0], dtype=np.float32))


def _uniform(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    """1 for visual rows number floor((i + 0.5) V / K), i = 0 .. K - 1, of V."""
    number = torch.cumsum(rows.visual.to(torch.int64), dim=0)  # of a visual row, from 1
    visual, keep = torch.clamp(rows.visual.sum(), min=1), torch.clamp(rows.count, min=1)

    def below(place: Tensor) -> Tensor:
        """How many of these numbers are below a place of at least 1: i with (2 i + 1) V < 2 K place."""
        most = torch.div(2 * keep * place - 1, visual, rounding_mode="floor")
        return torch.div(most + 1, 2, rounding_mode="floor")

    first = torch.clamp(number - 1, min=0)
    before = torch.where(first > 0, below(torch.clamp(first, min=1)), 0)
    return (below(torch.clamp(number, min=1)) - before).to(torch.float32)


def _encoder(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return rows["salience"]


def _nobody(rows: LanguageRows, settings: Mapping[str, float]) -> Tensor:
    return torch.zeros(rows.visual.shape[0])


RANDOM_ROWS = LanguageCut(
    name="random-rows",
    summary="seeded random rows",
    source="control",
    evidence="control",
    settings=(_SEED,),
    rank=_random,
)
UNIFORM_ROWS = LanguageCut(
    name="uniform-rows",
    summary="all but every n-th visual row",
    source="control",
    evidence="control",
    rank=_uniform,
)
ENCODER_ORDER = LanguageCut(
    name="encoder",
    summary="rows that the vision tower attends to least; the question is not looked at",
    source="control",
    evidence="control",
    rank=_encoder,
    reads=frozenset({"salience"}),
)
DROP_ALL = LanguageCut(
    name="drop-all",
    summary="all visual rows (KEEP 0), or all but the first KEEP",
    source="control",
    evidence="control",
    rank=_nobody,
)
