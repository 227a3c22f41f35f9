"""Cuts in the tower of a pretrained classifier, on real photographs: what each method loses and what it saves.

Every plan is exported as a graph of its own. Each photograph runs through the whole classifier and through every plan, one after the other
in a random order, on one thread; what counts is the CPU time of a run. Printed are, paired by photograph and with 95 % intervals, the
difference of top-1 from the whole classifier of the same precision, how often both say the same class, MACs, and the median ratio of times.
The run is resumable: end it and start it again with the same --work.

    python tools/tower_cuts_table.py --model vit_tiny_patch16_224.safetensors --photographs val.zip --labels labels.csv --work build/cuts
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeprune.models import open_classifier
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.tokens.inside.text import inside_from_texts
from edgeprune_export.commands.export_classifier import export_classifier
from edgeprune_runtime.statistics import paired_difference, paired_ratio

WHOLE = "none"
MIDDLE = "3,4,5,6,7,8,9"
#: Counts of seven cuts that came out best in trials; the same for every method that can.
FINE = "162,134,111,92,76,63,52"
EARLY = (
    "topk",
    "evit",
    "absorb",
    "tome",
    "gtp",
    "zero-tprune",
    "token-transforming",
    "received",
    "tower-random",
    "tower-uniform",
)
PLANS = (
    WHOLE,
    *(f"{name}@3,6,9:{keep}" for keep in ("0.8", "0.7", "0.65") for name in EARLY),
    *(
        f"{name}@{MIDDLE}:{FINE}"
        for name in ("topk", "evit", "absorb", "tome", "mctf", "zero-tprune", "gtp", "tower-random")
    ),
    *(f"absorb@{MIDDLE}:{keep}" for keep in ("0.9", "0.87", "0.83")),
    "absorb@3,4,5,6,7:160,130,106,86,70",
    "tome@0,1,2,3,4,5,6,7,8,9,10:188,180,172,164,156,148,140,132,124,116,108",
    "tome@0,1,2,3,4,5,6,7,8,9,10:183,170,157,144,131,118,105,92,79,66,53",
    "mctf@3,6,9:0.7",
    "expedit@4:0.5",
    "pool@3:0.5",
)


def photographs(archive: Path, labels: Path, limit: int | None) -> Iterator[tuple[str, Image.Image, int]]:
    """(name, picture, class), in the order of the file of labels."""
    with zipfile.ZipFile(archive) as file, labels.open(encoding="utf-8") as lines:
        inside = {Path(name).name: name for name in file.namelist()}
        for row in list(csv.DictReader(lines))[:limit]:
            if row["file"] in inside:
                yield row["file"], Image.open(io.BytesIO(file.read(inside[row["file"]]))), int(row["label"])


def graph_of(model: Path, plan: str, precision: Any, work: Path) -> tuple[Path, float]:
    """The folder of a plan's graph and how many times fewer MACs it has."""
    folder = work / precision / plan.replace(":", "_").replace(",", "-")
    said = folder / "macs.json"
    if not said.is_file():
        print(f"exporting {plan}, {precision}", file=sys.stderr, flush=True)
        made = export_classifier(
            model, folder, precision=precision, inside=inside_from_texts([plan]), parity=False, force=True
        )
        said.write_text(json.dumps(made.macs[0] / made.macs[1]), encoding="utf-8")
    return folder, float(json.loads(said.read_text(encoding="utf-8")))


def session_of(folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def measured(record: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs wrote, by photograph; a line that was cut short is left out."""
    found = {}
    for line in record.read_text(encoding="utf-8").splitlines() if record.is_file() else []:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found.setdefault(one["name"], {"label": one["label"], "plans": {}})["plans"].update(one["plans"])
    return found


def measure(options: argparse.Namespace, plans: Sequence[str], precision: str) -> dict[str, dict[str, Any]]:
    """Run what is missing, photograph by photograph; [class, seconds] by plan."""
    record = options.work / f"{precision}.jsonl"
    done, spec = measured(record), open_classifier(options.model).spec
    wanted = list(photographs(options.photographs, options.labels, options.limit))
    missing = [
        plan for plan in plans if any(plan not in done.get(name, {"plans": {}})["plans"] for name, _, _ in wanted)
    ]
    if not missing:
        return done
    sessions = {
        plan: session_of(graph_of(options.model, plan, precision, options.work)[0]) for plan in {WHOLE, *missing}
    }
    random = np.random.default_rng(0)
    with record.open("a", encoding="utf-8") as out:
        for name, picture, label in wanted:
            if not any(plan not in done.get(name, {"plans": {}})["plans"] for plan in missing):
                continue
            given = {"pixels": pixels_from_image(picture, spec)[None]}
            found: dict[str, list[float]] = {}
            for number in random.permutation(len(sessions)):
                plan = list(sessions)[number]
                sessions[plan].run(["logits"], given)  # caches are warm for every plan alike
                start = time.thread_time()
                logits = sessions[plan].run(["logits"], given)[0]
                found[plan] = [int(logits.argmax()), time.thread_time() - start]
            out.write(json.dumps({"name": name, "label": label, "plans": found}) + "\n")
            out.flush()
    return measured(record)


def table(found: dict[str, dict[str, Any]], plans: Sequence[str], fewer: dict[str, float]) -> str:
    titles = ("plan", "MACs", "time", "top-1", "difference, points", "same class")
    lines = [titles, tuple("---" for _ in titles)]
    shown = [one for one in found.values() if all(plan in one["plans"] for plan in plans)]
    whole = [float(one["plans"][WHOLE][0] == one["label"]) for one in shown]
    for plan in sorted(plans, key=lambda plan: (plan != WHOLE, fewer[plan])):
        right = [float(one["plans"][plan][0] == one["label"]) for one in shown]
        same = np.mean([one["plans"][plan][0] == one["plans"][WHOLE][0] for one in shown])
        d = paired_difference(right, whole, seed=0)
        times = paired_ratio(
            [one["plans"][WHOLE][1] for one in shown], [one["plans"][plan][1] for one in shown], seed=0
        )
        lines.append(
            (
                f"`{plan}`",
                f"{fewer[plan]:.2f}x",
                "-" if plan == WHOLE else f"{times.point:.2f}x [{times.low:.2f}, {times.high:.2f}]",
                f"{100 * np.mean(right):.1f}",
                "-" if plan == WHOLE else f"{100 * d.point:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]",
                f"{100 * same:.1f}",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


PAGE = """# Cuts in the tower of a classifier
What each method loses and saves between the blocks of a real ViT-Ti/16 (5.7 M parameters, ImageNet-1k) on photographs that it was not
trained on. Nothing is trained. Made by

    python tools/tower_cuts_table.py --model vit_tiny_patch16_224.safetensors --photographs val.zip --labels labels.csv \\
        --work build/cuts --page docs/measurements/tower-cuts.md

ONNX Runtime {version}, batch 1, one thread. Every photograph runs through the whole classifier and all plans in a random order; *time* is
the median ratio of CPU times of one run, whole to cut, *MACs* the ratio of multiply-accumulates without what cuts compute themselves, both
higher is better. *Difference* is top-1 against the whole classifier of the same precision, paired by photograph, in points, with its 95 %
interval; *same class*: how often both say the same, in per cent. Weights and photographs are not part of this repository.

- Intervals of top-1 are wide with so few photographs: what lies within a few points of each other cannot be told apart.
- A cut costs time of its own in a model this small, most where rows are compared with each other: times stay behind MACs.
- int8 is compared with int8; what quantisation itself costs is the difference between the first rows of both tables.

{tables}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a ViT classifier")
    parser.add_argument("--photographs", type=Path, required=True, help="zip archive")
    parser.add_argument(
        "--labels", type=Path, required=True, help="CSV with the columns file and label (0-based class)"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of graphs and of what was measured")
    parser.add_argument(
        "--plan", action="append", help="as `edgeprune export --inside` takes it [default: all of the page]"
    )
    parser.add_argument("--precision", action="append", choices=("fp32", "int8"), help="[default: both]")
    parser.add_argument("--limit", type=int, help="only the first N photographs")
    parser.add_argument("--page", type=Path, help="write the tables as a page")
    options = parser.parse_args()
    plans = tuple(dict.fromkeys((WHOLE, *(options.plan or PLANS))))
    options.work.mkdir(parents=True, exist_ok=True)
    sections = []
    for precision in options.precision or ("fp32", "int8"):
        found = measure(options, plans, precision)
        fewer = {plan: graph_of(options.model, plan, precision, options.work)[1] for plan in plans}
        shown = sum(all(plan in one["plans"] for plan in plans) for one in found.values())
        sections.append(f"## {precision}, {shown} photographs\n{table(found, plans, fewer)}\n")
        print(sections[-1], flush=True)
    if options.page is not None:
        page = PAGE.format(version=onnxruntime.__version__, tables="\n".join(sections))
        options.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
