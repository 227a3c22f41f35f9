"""How graphs are run when they are held against something else: mapped, and greedily."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprune_runtime.backends import Backend, Session
from edgeprune_runtime.backends.host import HostMemory
from edgeprune_runtime.language import LanguageModel
from edgeprune_runtime.spec import GraphSpec
from edgeprune_runtime.stages.lists import RowsPlan


class Mapped(HostMemory):
    """A backend whose sessions keep their weights mapped: repacking them is for speed, changes no result, and costs a gate memory."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name = inner.name

    def why_unavailable(self) -> str | None:
        return self._inner.why_unavailable()

    def require(self, root: Path, *, verify: bool) -> None:
        self._inner.require(root, verify=verify)

    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> Session:
        return self._inner.open(root, graph, resident=False)


def greedy(
    language: LanguageModel,
    embeds: np.ndarray,
    positions: np.ndarray,
    following: int,
    image_id: int,
    tokens: int,
    plan: RowsPlan | None = None,
) -> tuple[list[int], np.ndarray]:
    """Chosen tokens and the logits [n, V] they were chosen from; ends after an image placeholder, which a reference takes for a picture.

    following: position of the first new token; plan: which rows leave inside.
    """
    rows = [language.prefill(embeds, positions, plan).copy()]
    chosen = [int(np.argmax(rows[0]))]
    while len(chosen) < tokens and chosen[-1] != image_id:
        rows.append(language.step(chosen[-1], following + len(chosen) - 1).copy())
        chosen.append(int(np.argmax(rows[-1])))
    return chosen, np.stack(rows)
