"""Tokens, heads, channels and blocks, each alone and all in one recipe, on the reference model: accuracy, time by stage, memory.

Pruning sees pictures and questions of its own; what is asked afterwards was never calibrated or trained on. The bundles answer in turns in one
process, so that a busy moment hits all of them. Kill it and start it again: bundles and answers that are there are kept.

    python tools/recipes_table.py --work build/recipes
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tools" / "reference_vlm" / "checkpoint"
sys.path.insert(0, str(ROOT))

from edgeprune.evaluate.dataset import load_questions
from edgeprune.evaluate.metrics import exact_match
from edgeprune_profiles.measure.separate_memory import MemoryRequest, measure_apart
from edgeprune_runtime import Model
from edgeprune_runtime.statistics import paired_difference, paired_ratio

STRUCTURE = """
[structure]
images = "calibration/questions.jsonl"
limit-images = {pictures}
{recover}
"""
RECOVER = "recover = {{ steps = {steps}, batch = 8, rate = 3e-4 }}"
TOWER = '[structure.tower]\ntarget = "macs=0.7"\nimportance = "taylor"\nalign = 32\n'
LANGUAGE = '[structure.language]\ntarget = "params=0.7"\nimportance = "taylor"\nalign = 32\n'
BLOCKS = (
    '[structure.tower]\ntarget = "params=0.85"\nblocks = 1\nblock-importance = "removal"\n'
    '[structure.language]\ntarget = "params=0.8"\nblocks = 1\nblock-importance = "removal"\n'
)
BOTH = (
    '[structure.tower]\ntarget = "macs=0.7"\nimportance = "taylor"\nalign = 32\nblocks = 1\nblock-importance = "removal"\n'
    '[structure.language]\ntarget = "params=0.7"\nimportance = "taylor"\nalign = 32\nblocks = 1\nblock-importance = "removal"\n'
)
STRUCTURES = {"whole": "", "tower": TOWER, "language": LANGUAGE, "blocks": BLOCKS, "everything": BOTH}
ROWS = (
    ("nothing", "whole", "1.0"),
    ("20 % tokens", "whole", "0.2"),
    ("tower: heads, channels", "tower", "1.0"),
    ("language: heads, channels", "language", "1.0"),
    ("a block of each", "blocks", "1.0"),
    ("heads, channels, blocks", "everything", "1.0"),
    ("all of it", "everything", "0.2"),
)


def edgeprune(*words: str) -> None:
    print("$ edgeprune", *words, file=sys.stderr, flush=True)
    command = [sys.executable, "-c", "from edgeprune.cli import main; main()", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def recipe_text(structure: str, steps: int, pictures: int) -> str:
    recover = RECOVER.format(steps=steps) if steps else ""
    return STRUCTURE.format(pictures=pictures, recover=recover) + structure


def checkpoint_of(name: str, work: Path, steps: int, pictures: int) -> Path:
    """The reference model, or what a recipe leaves of it."""
    if not STRUCTURES[name]:
        return CHECKPOINT
    recipe, out = work / f"{name}-{steps}.toml", work / f"{name}-{steps}"
    recipe.write_text(recipe_text(STRUCTURES[name], steps, pictures), encoding="utf-8")
    if not out.is_dir():
        edgeprune("prune", str(CHECKPOINT), "--recipe", str(recipe), "--out", str(out))
    return out


def bundle_of(name: str, budget: str, work: Path, steps: int, pictures: int) -> Path:
    out = work / f"{name}-{steps}-{budget}.bundle"
    if not out.is_dir():
        source = checkpoint_of(name, work, steps, pictures)
        edgeprune("export", str(source), "--budget", budget, "--no-controls", "--out", str(out))
    return out


def scores(bundle: Path, budget: str, work: Path) -> tuple[list[float], list[str]]:
    """Exact match per question and the picture of each."""
    out = bundle.with_suffix(".answers.jsonl")
    words = ("--data", str(work / "heldout" / "questions.jsonl"), "--answers", str(out), "--max-tokens", "8")
    edgeprune("eval", str(bundle), *words, "--threads", "1", "--out", str(bundle.with_suffix(".json")), "--force")
    asked = load_questions(work / "heldout" / "questions.jsonl")
    own = "1.0" if budget == "1.0" else f"hired@{budget}"
    given = {
        line["number"]: line["answer"]
        for line in map(json.loads, out.read_text(encoding="utf-8").splitlines())
        if line.get("selection") == own
    }
    return [exact_match(given[q.number], q.answers) for q in asked], [q.image_name for q in asked]


def times(bundles: dict[str, Path], picture: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Processor seconds by stage per row and round, the rows taking turns."""
    models = {name: Model.open(path, threads=1, verify=False, reuse=False) for name, path in bundles.items()}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            answer = model.ask("which word is in the picture?", image=picture, max_tokens=9, stop=False)
            stages: dict[str, float] = {}
            for span in answer.spans:
                stages[span.name] = stages.get(span.name, 0.0) + span.cpu_s
            if turn:
                found[name].append(stages)
    for model in models.values():
        model.close()
    return found


def ttft(stages: dict[str, float]) -> float:
    return sum(seconds for name, seconds in stages.items() if name != "decode")


def page(work: Path, options: argparse.Namespace) -> str:
    bundles = {name: bundle_of(key, budget, work, options.steps, options.pictures) for name, key, budget in ROWS}
    picture = work / "heldout" / "0001.png"
    taken = times(bundles, picture, options.rounds)
    base, pictures = scores(bundles["nothing"], "1.0", work)
    head = (
        "| recipe | exact match | difference | TTFT (ms) | tower's share | TTFT ratio | next token ratio | weights (MB) | "
        "cache (MB) | memory added (MB) |"
    )
    lines = [head, "|" + " --- |" * 10]
    for name, _, budget in ROWS:
        bundle, own, whole = bundles[name], taken[name], taken["nothing"]
        hits, _ = scores(bundle, budget, work)
        drop = paired_difference(hits, base, seed=0, clusters=pictures)
        first = paired_ratio([ttft(s) for s in own], [ttft(s) for s in whole], seed=0)
        following = paired_ratio([s["decode"] for s in own], [s["decode"] for s in whole], seed=0)
        share = statistics.median(s["tower"] / ttft(s) for s in own)
        with Model.open(bundle, threads=1, verify=False) as model:
            cache = model.language.cache_bytes
        request = MemoryRequest(str(bundle), budget, str(picture), "which word is in the picture?", 4, 1, "auto")
        memory = measure_apart(request)
        weights = (bundle / "weights.bin").stat().st_size
        added = memory.peak_bytes - memory.baseline_bytes
        lines.append(
            f"| {name} | {100 * statistics.mean(hits):.1f} | {100 * drop.point:+.1f} [{100 * drop.low:+.1f}, "
            f"{100 * drop.high:+.1f}] | {1e3 * statistics.median(ttft(s) for s in own):.0f} | {share:.2f} | "
            f"{first.point:.2f} [{first.low:.2f}, {first.high:.2f}] | {following.point:.2f} [{following.low:.2f}, "
            f"{following.high:.2f}] | {weights / 1e6:.1f} | {cache / 1e6:.1f} | {added / 1e6:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; holds pictures, bundles and answers")
    parser.add_argument("--scenes", type=int, default=60, help="held-out pictures")
    parser.add_argument("--pictures", type=int, default=96, help="calibration questions")
    parser.add_argument("--steps", type=int, default=150, help="recovery steps of eight questions; 0: none")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    work: Path = options.work
    os.makedirs(work, exist_ok=True)
    maker = str(ROOT / "tools" / "reference_vlm" / "scenes.py")
    for folder, scenes, seed in (("heldout", options.scenes, ()), ("calibration", 200, ("--seed", "123456789"))):
        if not (work / folder / "questions.jsonl").is_file():
            words = ["--out", str(work / folder), "--scenes", str(scenes), *seed]
            subprocess.run([sys.executable, maker, *words], check=True, stdout=subprocess.DEVNULL)
    print(page(work, options))


if __name__ == "__main__":
    main()
