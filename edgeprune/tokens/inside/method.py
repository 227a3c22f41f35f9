"""What every method says by which tokens leave inside the model, whichever part it works in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgeprune.tokens.registry.method import Evidence, Setting

InsidePart = Literal["tower", "language"]


@dataclass(frozen=True)
class InsideMethod:
    """What a user must know about it; what it does is a subclass's, one for each part.

    evidence, differs, settings  as for a `Method`
    """

    part: ClassVar[InsidePart]

    name: str
    summary: str
    source: str
    evidence: Evidence = "own"
    differs: str = ""
    settings: tuple[Setting, ...] = ()

    def setting(self, name: str, given: Mapping[str, float]) -> float:
        """The plan's number, or the default."""
        return given.get(name, next(one.default for one in self.settings if one.name == name))
