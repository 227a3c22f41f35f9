"""Plans of `inside-speed`: what leaves in the tower, at its output and before layers of the language model, and the bundles that have them.

The model is `assets.checkpoint`'s: 11 of 12 blocks of a ViT-B tower run, 576 tokens of each of five tiles, a decoder of 24 layers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.bench.assets import bundle
from tools.bench.settings import Settings

OUTPUT = ("1.0", "0.4", "0.2", "0.1")
METHOD = "hired"
_WEIGHTS = "weights.bin"


@dataclass(frozen=True)
class Cuts:
    """A bundle's: METHOD@LAYERS of the language model, and a cut of the tower. Empty: none there.

    chunk  positions per run behind a cut of the language model; None: the exporter's
    """

    language: str = ""
    tower: str = ""
    chunk: int | None = None

    def words(self) -> list[str]:
        """Of the command line. What stays in the language model is said by each request."""
        words = [
            part
            for text in (self.tower, f"{self.language}:0.5" if self.language else "")
            if text
            for part in ("--inside", text)
        ]
        if self.language.startswith("drop-all"):
            words[-1] = f"{self.language}:0"
        words += (
            ["--budget-of", "picture"] if self.tower else []
        )  # small pictures have fewer tokens left than a largest one's share
        return words + (["--stage-chunk", str(self.chunk)] if self.chunk else [])


@dataclass(frozen=True)
class Plan:
    """keep: what stays at each cut of the language model, as shares of what enters it; None: nobody leaves at any."""

    budget: str
    cuts: Cuts = Cuts()
    keep: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """As the page has it: `topk@3:0.5 + 0.2 + pdrop@2:0.5`."""
        stay = ":" + ("none" if self.keep is None else ",".join(f"{share:g}" for share in self.keep))
        inside = self.cuts.language and self.cuts.language + stay
        chunk = f" (runs of {self.cuts.chunk})" if self.cuts.chunk else ""
        return " + ".join(part for part in (self.cuts.tower, self.budget, inside) if part) + chunk


def _at(language: str, *keeps: float, budget: str = "0.2", tower: str = "") -> Plan:
    return Plan(budget, Cuts(language, tower), keeps)


@dataclass(frozen=True)
class Plans:
    """All that are compared. towers: two cuts of the tower that leave by class attention, the stronger one last."""

    towers: tuple[str, str]

    @property
    def language(self) -> tuple[Plan, ...]:
        """The first are cut at the output only: arithmetic is made of them."""
        return (
            *map(Plan, OUTPUT),
            _at("pdrop@2", 0.5),
            _at("pdrop@2", 0.45),
            _at("pdrop@2", 0.25),
            _at("pdrop@6", 0.25),
            _at("pdrop@8,16", 0.5, 0.25),
            _at("drop-all@12", 0.0),
            _at("pdrop@2", 0.25, budget="0.4"),
            _at("pdrop@2", 0.1, budget="1.0"),
        )

    @property
    def tower(self) -> tuple[Plan, ...]:
        return tuple(
            Plan("0.2", Cuts("pdrop@2", cut), keep) for cut in self.towers for keep in (None, (0.45,), (0.25,))
        )

    @property
    def cost(self) -> tuple[Plan, ...]:
        """The same rows and the same runs through more graphs: what stages and rankings cost."""
        return Plan("0.2", Cuts("drop-all@12", chunk=128)), Plan("0.2", Cuts("pdrop@8,16", chunk=128))

    @property
    def aimed(self) -> Plan:
        """The one that the aim is about: about 10 % of the tokens over all layers."""
        return _at("pdrop@2", 0.45, tower=self.towers[1])

    @property
    def all(self) -> tuple[Plan, ...]:
        return (*self.language, *self.tower, *self.cost)


#: By size of the model.
PLANS = {
    "0.5b": Plans(("topk@3,6,9:0.7", "topk@3,6:0.5")),
    "tiny": Plans(("topk@0:0.7", "topk@0:0.5")),
}


def bundles(settings: Settings, precision: str) -> Mapping[Cuts, Path]:
    """Bundles of all plans."""
    found: dict[Cuts, Path] = {}
    plans = PLANS[settings.size].all
    for cuts in dict.fromkeys(plan.cuts for plan in plans):
        budgets = [b for b in OUTPUT if any(plan.cuts == cuts and plan.budget == b for plan in plans)]
        folder = bundle(settings, precision, budgets, more=("--method", METHOD, "--no-controls", *cuts.words()))
        found[cuts] = folder
        _share_weights(folder, [other for other in found.values() if other != folder])
    return found


def _share_weights(folder: Path, others: list[Path]) -> None:
    """Let equal files of weights be one file: two gigabytes each, and the memory of their pages."""
    own = folder / _WEIGHTS
    for other in (one / _WEIGHTS for one in others):
        if not own.samefile(other) and _hash(own) == _hash(other):
            partial = own.with_suffix(".partial")
            os.link(other, partial)
            partial.replace(own)


def _hash(weights: Path) -> str:
    """As the bundle's manifest has it."""
    manifest = json.loads((weights.parent / "manifest.json").read_text(encoding="utf-8"))
    return str(manifest["files"][weights.name]["sha256"])
