"""Accuracy and cost of every registered method that fits a reference model, written as a page of docs/measurements.

Accuracy: held-out pictures of a reference model at keep ratios 0.4, 0.2, 0.1 and 0.05, each with its paired difference from `random` at
the same K. Cost: select graphs on made features at CLIP-L's token counts beside a full prefill, see tools/selector_costs.py.
Each step is resumable: kill it and start it again.

    python tools/methods_table.py --work build/methods --scenes 100
    python tools/methods_table.py --reference merged --work build/methods-merged --scenes 100
    python tools/methods_table.py --work build/methods --missing     # methods without a row; the others keep theirs

A new row is paired with the answers of `random`, which are asked for again: where its row is no longer what it was, the model, the
pictures or the code are others, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeprune.evaluate import Question, load_questions
from edgeprune.evaluate.metrics import METRICS
from edgeprune.models import open_checkpoint
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.methods.controls import FULL
from edgeprune.tokens.registry.describe import costs
from edgeprune.tokens.registry.fit import method_plan, why_unfit
from edgeprune_runtime.spec import TokenPlan
from edgeprune_runtime.statistics import PairedDifference, paired_difference

BUDGETS = ("0.4", "0.2", "0.1", "0.05")
ONE_VIEW = "1.0 on one view"


@dataclass(frozen=True)
class Reference:
    """A reference model of the project. costs: whether the page says what selecting costs, which depends on no model."""

    folder: str
    page: str
    shape: str
    costs: bool

    @property
    def checkpoint(self) -> Path:
        return ROOT / "tools" / self.folder / "checkpoint"


REFERENCES = {
    "tiles": Reference("reference_vlm", "methods.md", "64 tokens per tile, 320 in all", True),
    "merged": Reference(
        "reference_smolvlm", "methods-merged.md", "16 tokens per tile, each of 2 x 2 patches, 80 in all", False
    ),
}
METRIC = "exact_match"


def edgeprune(*words: str) -> None:
    print("$ edgeprune", *words, file=sys.stderr, flush=True)
    command = [sys.executable, "-c", "from edgeprune.cli import main; main()", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def fitting(reference: Reference, names: list[str]) -> list[str]:
    """Those of the methods that the model has all for."""
    checkpoint = open_checkpoint(reference.checkpoint)
    plan = method_plan(TokenPlan(), checkpoint.spec)
    return [n for n in names if why_unfit(METHODS[n], plan, checkpoint.spec, checkpoint.weights.shapes) is None]


def scores_of(work: Path, reference: Reference, method: str, questions: tuple[Question, ...]) -> dict[str, list[float]]:
    """Budget -> score per question, from the bundle of one method; exported and asked where that was not done before."""
    bundle, log = work / f"{method}.bundle", work / f"{method}.jsonl"
    budgets = ("1.0", *BUDGETS) if method == "random" else BUDGETS
    if not bundle.is_dir():
        asked = [part for budget in budgets for part in ("--budget", budget)]
        edgeprune(
            "export", str(reference.checkpoint), *asked, "--method", method, "--no-controls", "--out", str(bundle)
        )
    done = work / f"{method}.json"
    if not done.is_file():
        words = ("--data", str(work / "heldout" / "questions.jsonl"), "--answers", str(log), "--out", str(done))
        tiles = ("--tiles", "none") if method == "random" else ()
        edgeprune("eval", str(bundle), *words, *tiles, "--max-tokens", "8", "--threads", "1")
    found: dict[str, dict[int, str]] = {}
    for line in log.read_text(encoding="utf-8").splitlines()[1:]:
        answer = json.loads(line)
        found.setdefault(answer["selection"], {})[answer["number"]] = answer["answer"]
    metric = METRICS[METRIC]
    by_budget = {name.rpartition("@")[2]: answers for name, answers in found.items()}
    by_budget |= {"1.0": by_budget.pop(FULL.name)} if FULL.name in by_budget else {}
    return {budget: [metric(answers[q.number], q.answers) for q in questions] for budget, answers in by_budget.items()}


def cell(mine: list[float], theirs: list[float], pictures: list[Path]) -> str:
    """Points, and the difference from random with its interval; a star where the interval leaves out zero."""
    score = f"{100 * sum(mine) / len(mine):.1f}"
    if mine is theirs:
        return score
    found: PairedDifference = paired_difference(mine, theirs, seed=0, clusters=pictures)
    bounds = f"{100 * found.point:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{score} ({bounds}){' *' if found.distinguishable else ''}"


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


Rows = dict[str, tuple[str, ...]]
"""Method -> its cells, one per budget."""


def stated(text: str) -> Rows:
    """The rows of the accuracy table of a page."""
    _, _, after = text.partition("| method | keep")
    lines = after.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: tuple(rest) for name, *rest in cells}


def merged(before: Rows, found: Rows) -> Rows:
    """All rows, where those of `random` agree; exits where they do not."""
    if before.get("random", found["random"]) != found["random"]:
        sys.exit(f"random scores {found['random']}, its row says {before['random']}; measure all methods again")
    return {**found, **before}


def points(cells: tuple[str, ...]) -> float:
    return sum(float(cell.split()[0]) for cell in cells)


def page(work: Path, scenes: int, reference: Reference, name: str, names: list[str], before: Rows) -> str:
    questions = load_questions(work / "heldout" / "questions.jsonl")
    pictures = [question.image for question in questions]
    scores = {n: scores_of(work, reference, n, questions) for n in ("random", *(n for n in names if n != "random"))}
    full, random = scores["random"]["1.0"], scores["random"]
    found = {name: tuple(cell(scores[name][b], random[b], pictures) for b in BUDGETS) for name in scores}
    rows = sorted(merged(before, found).items(), key=lambda row: -points(row[1]))
    whole, view = (100 * sum(values) / len(values) for values in (full, random[ONE_VIEW]))
    left_out = [n for n in METHODS if n not in dict(rows) and n != FULL.name]
    unfit = f"\n\nMethods that this model lacks something for: {', '.join(left_out)}." if left_out else ""
    return f"""# Methods

Printed by `python tools/methods_table.py --reference {name} --work build/methods --scenes {scenes}` (`make methods-table`).
What each method does: [methods](../methods.md).

## Accuracy
Reference model ([card](../../tools/{reference.folder}/README.md)), {scenes} held-out pictures, {len(questions)} questions, exact match in
points, fp32, positions kept, all separators. Without pruning: {whole:.1f}; one squashed view instead of tiles: {view:.1f}.
In brackets the difference from `random` at the same K with its 95 % paired bootstrap interval over pictures; `*`: the interval leaves out
zero. Sorted by the sum over budgets; winners and losers as they came out.

One small model with one seed, on pictures of the kind it was trained for (objects and text on textured backgrounds,
{reference.shape}): an order of methods here is no promise for another model.
Methods that look at the question use the language model's input embeddings, which in a model this small say little about pictures.

{table(("method", *(f"keep {b}" for b in BUDGETS)), [(n, *cells) for n, cells in rows])}{unfit}
{cost_page() if reference.costs else ""}"""


def cost_page() -> str:
    measured = costs()
    if not measured:
        return "\n## Cost\nNot measured yet: `python tools/selector_costs.py`.\n"
    rows = []
    for name, found in sorted(measured["methods"].items(), key=lambda item: item[1]["2880"]["ms"]):
        row = found["2880"]
        limit = 0.05 if row["greedy"] else 0.01
        verdict = "met" if row["share_of_prefill"] <= limit else "**missed**"
        rows.append(
            (
                name,
                f"{found['576']['ms']:.3g}",
                f"{row['ms']:.3g}",
                f"{100 * row['share_of_prefill']:.2g} %",
                f"{100 * limit:g} %: {verdict}",
                f"{row['nodes']:g}",
            )
        )
    titles = ("method", "N = 576, ms", "N = 2880, ms", "of a full prefill", "target", "nodes")
    return f"""
## Cost
Processor time of one run of the select graph, projector of the kept tokens included, medians of interleaved rounds.
{measured["conditions"]}

{table(titles, rows)}

Readings are made by the tower, not here: class attention and keys cost next to nothing, a map costs part of one block, `projected` costs
the projector over all tokens.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; holds bundles, pictures and answers")
    parser.add_argument("--scenes", type=int, default=100, help="held-out pictures")
    parser.add_argument("--method", action="append", help="only these, and random [default: all]")
    parser.add_argument("--missing", action="store_true", help="only methods that have no row; the rows of others stay")
    parser.add_argument("--reference", choices=REFERENCES, default="tiles", help="which reference model")
    parser.add_argument("--out", type=Path, help="page to write [default: the reference's own in docs/measurements]")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "heldout" / "questions.jsonl").is_file():
        maker = ROOT / "tools" / "reference_vlm" / "scenes.py"
        subprocess.run(
            [sys.executable, str(maker), "--out", str(work / "heldout"), "--scenes", str(options.scenes)], check=True
        )
    reference = REFERENCES[options.reference]
    names = fitting(reference, options.method or [name for name in METHODS if name != FULL.name])
    out = options.out or ROOT / "docs" / "measurements" / reference.page
    before = stated(out.read_text(encoding="utf-8")) if options.missing else {}
    text = page(work, options.scenes, reference, options.reference, [n for n in names if n not in before], before)
    out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
