"""A place in a language model at which rows leave or come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune.models.spec import DecoderSpec
from edgeprune.tokens.inside.rows import LanguageCut
from edgeprune_runtime.spec import LanguageSpec


@dataclass(frozen=True)
class CutPlace:
    """Stage `number` of a language model, before which rows leave or come back, and how."""

    language: LanguageSpec
    number: int
    cut: LanguageCut
    settings: Mapping[str, float]
    decoder: DecoderSpec

    @property
    def first(self) -> bool:
        """Whether no row has left before."""
        return self.number == self.language.cuts[0]

    @property
    def name(self) -> str | None:
        """Of the graph that ranks; None where the list is known without one."""
        return self.language.stages[self.number].rank

    @property
    def layer(self) -> int:
        """The layer before the cut."""
        return self.language.stages[self.number].first - 1

    @property
    def changed(self) -> range:
        """Layers of the stage before whose changes of rows count."""
        return range(self.layer if self.first else self.language.stages[self.number - 1].first, self.layer + 1)

    @property
    def carries(self) -> bool:
        """Whether later cuts need something of this one: its order, or what has been counted so far."""
        counts = (self.cut.once and self.first) or "changed" in self.cut.reads
        return counts and self.number != self.language.cuts[-1]

    @property
    def rows(self) -> int:
        """L: rows that the stage before has room for."""
        return self.language.stages[self.number - 1].capacity

    @property
    def prompt(self) -> int:
        """P: rows of a prompt."""
        return self.language.stages[self.language.cuts[0] - 1].capacity
