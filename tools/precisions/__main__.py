"""How far int8 and int4 are from float32 on the reference models, written as docs/measurements/precisions.md.

Kill it and start it again: bundles and answers are kept.

    python -m tools.precisions --work build/precisions
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from edgeprune.doctor import examine
from edgeprune_export.onnx.quantized import BLOCK, LARGEST_INT8
from edgeprune_runtime.installed import version_of
from edgeprune_runtime.meters.environment import environment
from edgeprune_runtime.statistics import paired_ratio
from tools.accuracy_table import CHECKPOINT, ROOT, call, table
from tools.precisions.answers import BUDGETS, PRECISIONS, answers_table, export
from tools.precisions.logits import VARIANTS, compared, with_eight_bits

OUT = ROOT / "docs" / "measurements" / "precisions.md"
_EXACT = (
    "This processor has int8 dot products, so nothing saturates here. On one without, the same command shows what saturation costs: the first "
    "row of each budget against the second."
)
_SATURATING = "This processor has no int8 dot products: weights of 8 bits saturate in the first row of each budget."


def page(kept: dict[str, dict[str, list]], answers: str, questions: int, scenes: int) -> str:
    rows = []
    for budget in BUDGETS:
        default = [one[3] for one in kept[budget][VARIANTS[2].title]]
        for variant in VARIANTS:
            found = kept[budget][variant.title]
            largest = np.array([one[0] for one in found])
            ratio = paired_ratio([one[3] for one in found], default, seed=0)
            same = sum(one[2] for one in found)
            times = "1" if variant is VARIANTS[2] else f"{ratio.point:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            cells = (budget, variant.title, f"{np.median(largest):.3f}", f"{largest.max():.2f}")
            rows.append((*cells, f"{min(one[1] for one in found):.4f}", f"{same} of {len(found)}", times))
    head = (
        "budget",
        "weights",
        "largest difference, median",
        "worst",
        "worst cosine",
        "first choice equal",
        "processor time",
    )
    cpu, processor = examine().cpu, environment().cpu_model
    return f"""# Error of int8 and int4

Printed by `python -m tools.precisions --work build/precisions --scenes {scenes} --questions {questions}`,
on {processor} ({", ".join(cpu.features)}),
ONNX Runtime {version_of("onnxruntime")}.

## Logits of the first token
[First reference model](../../tools/reference_vlm/README.md), against float32, {questions} questions about {scenes} held-out pictures; one
thread, all variants of a question one after the other in an order that changes. Processor time of picture and prompt: ratio to int8 as it is
stored, with a 95 % interval over questions; other programs were running.

{table(head, rows)}

{_SATURATING if cpu.fast_int8 is False else _EXACT}

**int8 weights use 7 bits (up to +-{LARGEST_INT8})**, whatever processor a bundle is made on: x86 without int8 dot products adds two products
of an unsigned activation and a signed weight in 16 bits, which 2 * 255 * 127 exceeds and 2 * 255 * {LARGEST_INT8} does not, so the same bundle
means the same products everywhere. The price is one bit of the weights: the difference between the rows of exact products.

## Answers
Both reference models ([second](../../tools/reference_smolvlm/README.md)), all questions about the {scenes} pictures, exact match in points;
in brackets the difference from float32 with a 95 % interval, paired by question, over pictures. int4 is rounding to the nearest of 16 numbers
in blocks of {BLOCK}, without calibration. Both models are small and their questions easy: what 4 bits cost a large one, `edgeprune eval` says.

{answers}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; holds bundles and pictures")
    parser.add_argument("--scenes", type=int, default=60, help="held-out pictures")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "heldout" / "questions.jsonl").is_file():
        maker = ROOT / "tools" / "reference_vlm" / "scenes.py"
        call(str(maker), "--out", str(work / "heldout"), "--scenes", str(options.scenes))
    for precision in PRECISIONS:
        export(CHECKPOINT, precision, work / f"{precision}.bundle")
    shutil.rmtree(work / "int8-127.bundle", ignore_errors=True)
    with_eight_bits(work / "fp32.bundle", work / "int8.bundle", work / "int8-127.bundle")
    answers = answers_table(work)
    text = page(compared(work, options.questions), answers, options.questions, options.scenes)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
