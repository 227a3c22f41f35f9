"""Rows that leave inside the language model, on the reference models' held-out pictures: docs/measurements/inside-language.md.

Full, output only, inside only and both, each with the paired difference from the whole model; one bundle per ranking, the same cuts. Each
run is resumable: kill it and start it again.

    python tools/inside_language.py --work build/inside --scenes 60
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from accuracy_table import ROOT, call, cell, edgeprune, table

from edgeprune_runtime import Bundle
from edgeprune_runtime.budgets import asked_for
from edgeprune_runtime.spec import LanguageSpec
from edgeprune_runtime.stages.counts import choice_from_text, mean_kept

BUDGETS = ("1.0", "0.4", "0.2")
METHOD = "divprune"
RANKINGS = ("pdrop", "fastv", "sparsevlm", "encoder", "random-rows")


class Reference(NamedTuple):
    """A checkpoint under tools/, the cuts that are tried on it, and what stays at them."""

    name: str
    folder: str
    layers: str
    inside: tuple[str, ...]


MODELS = (
    Reference("LLaVA-NeXT of 4 layers, 320 visual tokens at most", "reference_vlm", "1,2", ("64,64", "64,16")),
    Reference("SmolVLM", "reference_smolvlm", "1,2", ("32,32", "32,8")),
)


def bundle_of(work: Path, model: Reference, ranking: str) -> Path:
    out = work / f"{model.folder}-{ranking}.bundle"
    if not out.is_dir():
        budgets = [part for budget in BUDGETS for part in ("--budget", budget)]
        inside = f"{ranking}@{model.layers}:{model.inside[0]}"
        checkpoint = str(ROOT / "tools" / model.folder / "checkpoint")
        edgeprune(
            "export", checkpoint, *budgets, "--method", METHOD, "--no-controls", "--inside", inside, "--out", str(out)
        )
    return out


def evaluated(work: Path, model: Reference, ranking: str, data: Path) -> dict[str, Any]:
    """The comparison of one bundle, from the file of an earlier run where there is one."""
    out = work / f"{model.folder}-{ranking}.json"
    if not out.is_file():
        words = [
            "eval",
            str(bundle_of(work, model, ranking)),
            "--data",
            str(data),
            "--answers",
            str(out.with_suffix(".jsonl")),
        ]
        words += [part for one in model.inside for part in ("--inside", one)]
        edgeprune(*words, "--out", str(out), "--max-tokens", "8", "--threads", "1")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def mean(language: LanguageSpec, row: dict[str, Any], visual: int) -> str:
    """Visual tokens over all layers, of those of the whole picture."""
    kept = visual if row["keep"] is None else row["keep"]
    return f"{100 * mean_kept(language, kept, choice_from_text(asked_for(row['name']).inside)) / visual:.0f} %"


def section(work: Path, model: Reference, data: Path) -> str:
    language = Bundle.open(bundle_of(work, model, RANKINGS[0]), verify=False).manifest
    visual = language.picture.candidates_max
    lines: list[tuple[str, ...]] = []
    kinds: tuple[str, ...] = ()
    for ranking in RANKINGS:
        found = evaluated(work, model, ranking, data)
        kinds = kinds or tuple(sorted(found["rows"][0]["kinds"]))
        for row in found["rows"]:
            inside = asked_for(row["name"]).inside
            if inside == "none" and ranking != RANKINGS[0]:
                continue  # the same model in every bundle
            lines.append(
                (
                    "all" if row["keep_ratio"] == 1 else f"{METHOD} {row['keep_ratio']:g}",
                    "-" if inside == "none" else f"{ranking}@{model.layers}:{inside}",
                    mean(language.language, row, visual),
                    cell(row, found["headline"]),
                    *(f"{100 * row['kinds'][kind]:.0f}" for kind in kinds),
                )
            )
    titles = ("at the output", "inside", "kept over layers", "points", *kinds)
    return f"## {model.name}\n{found['questions']} questions.\n\n{table(titles, lines)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; holds bundles, pictures and answers")
    parser.add_argument("--scenes", type=int, default=60, help="held-out pictures")
    parser.add_argument("--models", nargs="*", default=[model.folder for model in MODELS], help="folders under tools/")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements" / "inside-language.md")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    data = work / "heldout" / "questions.jsonl"
    if not data.is_file():
        call(
            str(ROOT / "tools" / "reference_vlm" / "scenes.py"),
            "--out",
            str(data.parent),
            "--scenes",
            str(options.scenes),
        )
    parts = [section(work, model, data) for model in MODELS if model.folder in options.models]
    chosen = " ".join(options.models)
    text = f"""# Rows that leave inside the language model

{options.scenes} held-out pictures of the reference models ([card](../../tools/reference_vlm/README.md)); in brackets the difference from the
whole model with a 95 % paired bootstrap interval over pictures. Layers count from 0, rows leave before them; text stays. "Kept over layers"
is the mean over all layers of the visual tokens that a layer sees, of those of the largest picture. Printed by
`python tools/inside_language.py --work build/inside --scenes {options.scenes} --models {chosen}`. Small models, one seed, easy retrieval: they
say that it works, not how well on a large one.

{chr(10).join(parts)}"""
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
