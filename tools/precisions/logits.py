"""Logits of the first token of the same questions in each precision, against float32.

Weights of 8 bits (up to +-127) and of 7 (up to +-63), each with the product that ONNX Runtime takes on this processor and with its exact one:
on x86 without int8 dot products the former saturates for weights of 8 bits.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from edgeprune_export.onnx.quantized import quantize_rows
from edgeprune_runtime import Bundle
from edgeprune_runtime.backends import BACKENDS
from edgeprune_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from edgeprune_runtime.model import Model
from edgeprune_runtime.prompting.packed_prompt import packed_prompt
from edgeprune_runtime.prompting.prefill_prompt import prefill_prompt
from edgeprune_runtime.prompting.prompt import Prompter
from edgeprune_runtime.prompting.requests import Request
from tools.precisions.answers import BUDGETS

EIGHT_BITS = 127


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
