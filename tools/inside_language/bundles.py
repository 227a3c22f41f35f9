"""Bundles of both reference models, one for each way of cutting inside the language model; every one through the parity gate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.settings import ROOT, say
from tools.inside_language.plans import BUDGETS, Cuts, RowPlan, plans


@dataclass(frozen=True)
class ReferenceModel:
    """own: the output method that follows the tower's attention; tokens: visual tokens of a picture that fills all tiles."""

    name: str
    folder: str
    own: str
    tokens: int

    @property
    def checkpoint(self) -> Path:
        return ROOT / "tools" / self.folder / "checkpoint"

    @property
    def plans(self) -> tuple[RowPlan, ...]:
        return plans(self.own)

    @property
    def cuts(self) -> tuple[Cuts, ...]:
        return tuple(dict.fromkeys(plan.cuts for plan in self.plans))


REFERENCES = (
    ReferenceModel("tiles", "reference_vlm", "hired", 320),
    ReferenceModel("merged", "reference_smolvlm", "received", 80),
)


def bundle(work: Path, model: ReferenceModel, cuts: Cuts) -> Path:
    """The bundle, made where it is not there yet."""
    folder = work / model.name / f"{cuts.name}.bundle"
    if folder.is_dir():
        return folder
    say(f"{model.name}: exporting {cuts.name}")
    wanted = [plan for plan in model.plans if plan.cuts == cuts]
    methods = dict.fromkeys(plan.method or model.own for plan in wanted)
    budgets = [b for b in BUDGETS if any(plan.budget == b for plan in wanted)]
    _edgeprune(
        ["export", str(model.checkpoint), "--no-controls", "--out", str(folder)]
        + [part for budget in budgets for part in ("--budget", budget)]
        + [part for method in methods for part in ("--method", method)]
        + inside_words(cuts, wanted, model.tokens)
    )
    return folder


def inside_words(cuts: Cuts, wanted: Sequence[RowPlan], tokens: int) -> list[str]:
    """Of the command line; the first plan's counts are the bundle's own."""
    if not cuts.method:
        return []
    counts = ",".join(map(str, wanted[0].counts(tokens)))
    return ["--inside", f"{cuts.method}@{','.join(map(str, cuts.layers))}:{counts}"]


def held_out(work: Path, scenes: int) -> Path:
    """Questions about the first so many held-out scenes of the reference models."""
    folder = work / f"heldout-{scenes}"
    questions = folder / "questions.jsonl"
    if not questions.is_file():
        maker = ROOT / "tools" / "reference_vlm" / "scenes.py"
        subprocess.run([sys.executable, str(maker), "--out", str(folder), "--scenes", str(scenes)], check=True)
    return questions


def _edgeprune(words: list[str]) -> None:
    command = [sys.executable, "-c", "from edgeprune.cli import main; main()", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"edgeprune {' '.join(words)}\n{done.stdout}{done.stderr}")
