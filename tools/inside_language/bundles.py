"""Bundles of both reference models, one for each way of cutting inside the language model; every one through the parity gate."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.bench.settings import ROOT, say
from tools.inside_language.plans import BUDGETS, WHOLE_TOWER, Cuts, RowPlan, plans


@dataclass(frozen=True)
class ReferenceModel:
    """A checkpoint of this repository.

    own      the output method that follows the tower's attention
    tokens   visual tokens of a picture that fills all tiles
    towers   cuts of its tower that are compared, the one that follows the tower's attention first
    without  rankings that the model cannot give
    """

    name: str
    folder: str
    own: str
    tokens: int
    towers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path:
        return ROOT / "tools" / self.folder / "checkpoint"

    @property
    def plans(self) -> tuple[RowPlan, ...]:
        return plans(self.own, self.towers, self.without)

    @property
    def cuts(self) -> tuple[Cuts, ...]:
        """Of its bundles."""
        return tuple(dict.fromkeys(plan.cuts.held for plan in self.plans))

    def served(self, cuts: Cuts) -> tuple[RowPlan, ...]:
        """Plans of one bundle."""
        return tuple(plan for plan in self.plans if plan.cuts.held == cuts)


REFERENCES = (
    ReferenceModel("tiles", "reference_vlm", "hired", 320, ("topk@1:0.5", "absorb@1:0.5", "tower-random@1:0.5")),
    ReferenceModel("merged", "reference_smolvlm", "received", 80, ("received@1:0.5", "tower-random@1:0.5")),
)


def bundle(work: Path, model: ReferenceModel, cuts: Cuts) -> Path:
    """The bundle, made where it is not there yet."""
    folder = work / model.name / f"{cuts.name}.bundle"
    if folder.is_dir():
        return folder
    say(f"{model.name}: exporting {cuts.name}")
    wanted = model.served(cuts)
    methods = dict.fromkeys(plan.method or model.own for plan in wanted)
    budgets = [b for b in BUDGETS if any(plan.budget == b for plan in wanted)]
    _edgeprune(
        ["export", str(model.checkpoint), "--no-controls", "--out", str(folder)]
        + [part for budget in budgets for part in ("--budget", budget)]
        + [part for method in methods for part in ("--method", method)]
        + inside_words(cuts)
    )
    return folder


def inside_words(cuts: Cuts) -> list[str]:
    """Of the command line. What stays when nobody says otherwise is of no account: every plan says it."""
    words = ["--budget-of", "picture"] if cuts.tower else []
    if cuts.tower not in ("", WHOLE_TOWER):
        words += ["--inside", cuts.tower]
    if cuts.method:
        keep = {"drop-all": "0", "lvlm-csp": "0.5,1,0.5"}.get(cuts.method, "0.5")
        words += ["--inside", f"{cuts.method}@{','.join(map(str, cuts.layers))}:{keep}"]
    return words


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
