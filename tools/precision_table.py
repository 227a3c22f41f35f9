"""How far int8 and int4 are from float32 on the reference models, written as docs/measurements/precisions.md.

Logits of the first token of the same questions: weights of 8 bits (up to +-127) and of 7 (up to +-63), each with the product that ONNX Runtime
takes on this processor and with its exact one (on x86 without int8 dot products the former saturates for weights of 8 bits), and int4. Then
answers of both reference models in each precision, paired by question. Kill it and start it again: bundles and answers are kept.

    python tools/precision_table.py --work build/precisions
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from edgeprune.evaluate.metrics import exact_match
from edgeprune_export.onnx.quantized import BLOCK, LARGEST_INT8, quantize_rows
from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import BACKENDS
from edgeprune_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from edgeprune_runtime.installed import version_of
from edgeprune_runtime.model import Model
from edgeprune_runtime.prompting.packed_prompt import packed_prompt
from edgeprune_runtime.prompting.prefill_prompt import prefill_prompt
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.prompting.requests import Request
from edgeprune_runtime.statistics import paired_difference, paired_ratio

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tools" / "reference_vlm" / "checkpoint"
SECOND = ROOT / "tools" / "reference_smolvlm" / "checkpoint"
PRECISIONS = ("fp32", "int8", "int4")
OUT = ROOT / "docs" / "measurements" / "precisions.md"
BUDGETS = ("1.0", "0.2")
EIGHT_BITS = 127
_DOT_PRODUCTS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


class ExactProducts(OnnxRuntimeCpu):
    """The CPU with int8 products that never saturate, at a price in time where the processor has no dot products."""

    name = "onnxruntime-exact"

    def options(self, *, resident: bool) -> object:
        options = super().options(resident=resident)
        options.add_session_config_entry("session.x64quantprecision", "1")
        return options


BACKENDS.add(ExactProducts.name, lambda name, threads: ExactProducts(threads))


class Variant(NamedTuple):
    title: str
    bundle: str
    backend: str


VARIANTS = (
    Variant("8 bits, as run", "int8-127", "onnxruntime"),
    Variant("8 bits, exact product", "int8-127", ExactProducts.name),
    Variant("7 bits, as run (the default)", "int8", "onnxruntime"),
    Variant("7 bits, exact product", "int8", ExactProducts.name),
    Variant("int4: language model 4 bits, tower 7", "int4", "onnxruntime"),
)


class Difference(NamedTuple):
    """Of one question's logits [V] from those in float32: largest absolute one, cosine, and whether the first choice is the same."""

    largest: float
    cosine: float
    same: bool


def edgeprune(*words: str) -> None:
    call = [sys.executable, "-c", "from edgeprune.cli import main; main()", *words]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)


def initializers(folder: Path) -> dict[str, onnx.TensorProto]:
    """Weights of all graphs by name, without their data."""
    graphs = (onnx.load(path, load_external_data=False).graph for path in sorted(folder.glob("*.onnx")))
    found = {one.name: one for graph in graphs for one in graph.initializer}
    return {name: one for name, one in found.items() if one.data_location == onnx.TensorProto.EXTERNAL}


def place(tensor: onnx.TensorProto) -> tuple[int, tuple[int, ...]]:
    """Offset into the weights file, and shape."""
    return int(next(one.value for one in tensor.external_data if one.key == "offset")), tuple(tensor.dims)


def with_eight_bits(fp32: Path, int8: Path, out: Path) -> None:
    """The int8 bundle with weights up to +-127, made of those of the fp32 one; the copy is no longer what was sealed."""
    shutil.copytree(int8, out)
    whole, small = initializers(fp32), initializers(int8)
    source = np.memmap(fp32 / "weights.bin", np.uint8, "r")
    target = np.memmap(out / "weights.bin", np.uint8, "r+")

    def tensor(data: np.memmap, one: onnx.TensorProto, dtype: type) -> np.ndarray:
        offset, shape = place(one)
        return data[offset : offset + int(np.prod(shape)) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)

    for name, one in small.items():
        if not name.endswith(".int8"):
            continue
        layer = name.removesuffix(".int8")
        weight = tensor(source, whole.get(f"{layer}.weight", whole["embed.weight"]), np.float32)
        rows, scale = quantize_rows(weight, EIGHT_BITS)
        tensor(target, one, np.int8)[...] = rows.T
        tensor(target, small[f"{layer}.scale"], np.float32)[...] = scale
    target.flush()


class Asker:
    """A bundle on a backend that is asked for the logits of first tokens."""

    def __init__(self, bundle: Path, backend: str) -> None:
        self.model = Model(Bundle.open(bundle, verify=False), backend=backend, threads=1, reuse=False)
        self._prompter = Prompter.of(self.model.bundle)

    def first(self, picture: Path, question: str, budget: str) -> tuple[np.ndarray, float]:
        """Logits [V] of the first token, and the processor time in seconds that picture and prompt took."""
        model, manifest = self.model, self.model.bundle.manifest
        started = time.process_time()
        view = model.see(picture, budget=budget)
        request = Request(question, view)
        rendered = self._prompter.render(question, images=1, template=True)
        tokens = self._prompter.tokens(rendered, [view.picture])
        packed = packed_prompt(tokens, [view], manifest, manifest.plan)
        found = prefill_prompt(model.language, model.bundle, packed, (view,), request, manifest.plan.positions)
        return found.logits.copy(), time.process_time() - started


def difference(found: np.ndarray, expected: np.ndarray) -> Difference:
    cosine = float(found @ expected / (np.linalg.norm(found) * np.linalg.norm(expected)))
    return Difference(float(np.abs(found - expected).max()), cosine, int(found.argmax()) == int(expected.argmax()))


def compared(work: Path, questions: int) -> dict[str, dict[str, list]]:
    """By budget and variant: differences and seconds, question by question, all variants of a question one after the other."""
    lines = (work / "heldout" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    step = max(1, len(asked) // questions)
    whole = Asker(work / "fp32.bundle", "onnxruntime")
    askers = {v.title: Asker(work / f"{v.bundle}.bundle", v.backend) for v in VARIANTS}
    kept: dict[str, dict[str, list]] = {b: {v.title: [] for v in VARIANTS} for b in BUDGETS}
    for number, one in enumerate(asked[::step][:questions]):
        for budget in BUDGETS:
            where = work / "heldout" / one["image"], one["question"], budget
            expected, _ = whole.first(*where)
            for title in sorted(askers, key=lambda title: (hash_of(number, title), title)):
                found, seconds = askers[title].first(*where)
                kept[budget][title].append((*difference(found, expected), seconds))
        print(f"{number + 1} of {questions} questions", file=sys.stderr, end="\r", flush=True)
    return kept


def hash_of(number: int, title: str) -> int:
    """An order that changes from question to question, and is the same in every run."""
    return zlib.crc32(f"{number} {title}".encode())


def answered(work: Path, checkpoint: Path, name: str, precision: str) -> dict[str, list[bool]]:
    """Whether each question was answered exactly, by selection."""
    bundle, log = work / f"{name}-{precision}.bundle", work / f"{name}-{precision}.jsonl"
    export(checkpoint, precision, bundle)
    data = work / "heldout" / "questions.jsonl"
    words = ["eval", str(bundle), "--data", str(data), "--answers", str(log), "--max-tokens", "8", "--threads", "1"]
    edgeprune(*words, "--out", str(log.with_suffix(".json")), "--force")
    questions = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[bool]] = {}
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[1:]]
    for one in sorted(lines, key=lambda one: one["number"]):
        right = exact_match(one["answer"], questions[one["number"]]["answers"]) == 1.0
        found.setdefault(one["selection"], []).append(right)
    return found


def answers_table(work: Path) -> str:
    pictures = [json.loads(line)["image"] for line in (work / "heldout" / "questions.jsonl").read_text().splitlines()]
    rows = []
    for name, checkpoint in (("first", CHECKPOINT), ("second", SECOND)):
        found = {precision: answered(work, checkpoint, name, precision) for precision in PRECISIONS}
        for precision in PRECISIONS:
            megabytes = (work / f"{name}-{precision}.bundle" / "weights.bin").stat().st_size / 1e6
            cells = [name, precision, f"{megabytes:.1f}"]
            for selection, right in found[precision].items():
                score = f"{100 * np.mean(right):.1f}"
                if precision != "fp32":
                    apart = paired_difference(right, found["fp32"][selection], seed=0, clusters=pictures)
                    score += f" ({100 * apart.point:+.1f} [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}])"
                cells.append(score)
            rows.append(tuple(cells))
        selections = tuple(found["fp32"])
    return table(("reference model", "weights", "MB", *selections), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def export(checkpoint: Path, precision: str, out: Path) -> None:
    if not out.is_dir():
        budgets = [part for budget in BUDGETS for part in ("--budget", budget)]
        edgeprune("export", str(checkpoint), *budgets, "--no-controls", "--weights", precision, "--out", str(out))


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
    facts = cpu_facts()
    return f"""# Error of int8 and int4

Printed by `python tools/precision_table.py --work build/precisions --scenes {scenes} --questions {questions}`, on {facts.name} ({facts.said}),
ONNX Runtime {version_of("onnxruntime")}.

## Logits of the first token
[First reference model](../../tools/reference_vlm/README.md), against float32, {questions} questions about {scenes} held-out pictures; one
thread, all variants of a question one after the other in an order that changes. Processor time of picture and prompt: ratio to int8 as it is
stored, with a 95 % interval over questions; other programs were running.

{table(head, rows)}

{facts.reading}

**int8 weights use 7 bits (up to +-{LARGEST_INT8})**, whatever processor a bundle is made on: x86 without int8 dot products adds two products
of an unsigned activation and a signed weight in 16 bits, which 2 * 255 * 127 exceeds and 2 * 255 * {LARGEST_INT8} does not, so the same bundle
means the same products everywhere. The price is one bit of the weights: the difference between the rows of exact products.

## Answers
Both reference models ([second](../../tools/reference_smolvlm/README.md)), all questions about the {scenes} pictures, exact match in points;
in brackets the difference from float32 with a 95 % interval, paired by question, over pictures. int4 is rounding to the nearest of 16 numbers
in blocks of {BLOCK}, without calibration. Both models are small and their questions easy: what 4 bits cost a large one, `edgeprune eval` says.

{answers}
"""


class CpuFacts(NamedTuple):
    name: str
    said: str
    reading: str


def cpu_facts() -> CpuFacts:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = next(
        (line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "a processor"
    )
    flags = set(text.split())
    dots = [flag for flag in _DOT_PRODUCTS if flag in flags]
    if dots:
        return CpuFacts(
            name,
            f"int8 dot products: {', '.join(dots)}",
            "This processor has int8 dot products, so nothing saturates here. On one without, the same command shows what saturation costs: "
            "the first row of each budget against the second.",
        )
    return CpuFacts(
        name,
        "no int8 dot products",
        "This processor has no int8 dot products: weights of 8 bits saturate in the first row of each budget.",
    )


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
        subprocess.run(
            [sys.executable, str(maker), "--out", str(work / "heldout"), "--scenes", str(options.scenes)], check=True
        )
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
