"""Every photograph through the whole classifier and every plan, one after the other, each line of the record a photograph."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from edgeprune.models import open_classifier
from edgeprune.models.classifiers.pictures import pixels_from_image
from edgeprune.tokens.inside.text import inside_from_texts
from edgeprune_export.commands.export_classifier import export_classifier
from edgeprune_runtime.meters import look, machine_use
from tools.tower_cuts.plans import WHOLE

#: By photograph: its class, what the machine did meanwhile, and by plan what came out.
Record = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """timed: of so many photographs, the first ones, times are taken too."""

    model: Path
    photographs: Path
    labels: Path
    work: Path
    limit: int | None
    timed: int


def macs_of(asked: Asked, plan: str, precision: Any) -> float:
    """How many times fewer multiply-accumulates the plan has; its graph is made where it is not there yet."""
    folder = _folder(asked, plan, precision)
    said = folder / "macs.json"
    if not said.is_file():
        print(f"exporting {plan}, {precision}", file=sys.stderr, flush=True)
        made = export_classifier(
            asked.model, folder, precision=precision, inside=inside_from_texts([plan]), parity=False, force=True
        )
        if plan != WHOLE:
            macs_of(asked, WHOLE, precision)
            _share_weights(folder, _folder(asked, WHOLE, precision))
        said.write_text(json.dumps(made.macs[0] / made.macs[1]), encoding="utf-8")
    return float(json.loads(said.read_text(encoding="utf-8")))


def measure(asked: Asked, plans: Sequence[str], precision: str) -> Record:
    """Run what is missing and return all that is known. The whole classifier runs beside whatever is missing, so that pairs stay pairs."""
    record = asked.work / f"{precision}.jsonl"
    done = recorded(record)
    wanted = list(_photographs(asked))
    missing = [
        plan for plan in plans if any(plan not in done.get(name, {"plans": {}})["plans"] for name, _, _ in wanted)
    ]
    if not missing:
        return done
    sessions = {}
    for plan in dict.fromkeys((WHOLE, *missing)):
        macs_of(asked, plan, precision)
        sessions[plan] = _session(_folder(asked, plan, precision))
    spec, random = open_classifier(asked.model).spec, np.random.default_rng(0)
    with record.open("a", encoding="utf-8") as out:
        for number, (name, picture, label) in enumerate(wanted):
            if all(plan in done.get(name, {"plans": {}})["plans"] for plan in missing):
                continue
            first = look()
            found = _run(sessions, pixels_from_image(picture, spec)[None], random, timed=number < asked.timed)
            use = machine_use([first, look()])
            busy = {"other_cores": use.other_cores, "stolen_share": use.stolen_share, "cores": use.cores}
            out.write(json.dumps({"name": name, "label": label, "plans": found, "busy": busy}) + "\n")
            out.flush()
    return recorded(record)


def recorded(record: Path) -> Record:
    """What earlier runs wrote, by photograph; a line that was cut short is left out."""
    found: Record = {}
    for line in record.read_text(encoding="utf-8").splitlines() if record.is_file() else []:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        whole = one["plans"][WHOLE]
        known = found.setdefault(one["name"], {"label": one["label"], "plans": {}, "busy": []})
        for plan, said in one["plans"].items():
            known["plans"].setdefault(plan, said | {"beside": whole})
        known["busy"].append(one["busy"] | {"timed": "cpu_s" in whole})
    return found


def _run(
    sessions: dict[str, onnxruntime.InferenceSession], pixels: np.ndarray, random: np.random.Generator, *, timed: bool
) -> dict[str, dict[str, Any]]:
    """By plan: class, divergence from the whole model and, where timed, seconds of a second run, when caches are warm."""
    found: dict[str, dict[str, Any]] = {}
    logits: dict[str, np.ndarray] = {}
    for number in random.permutation(len(sessions)):
        plan = list(sessions)[number]
        logits[plan] = sessions[plan].run(["logits"], {"pixels": pixels})[0][0].astype(np.float64)
        found[plan] = {"class": int(logits[plan].argmax())}
        if timed:
            wall, cpu = time.perf_counter(), time.thread_time()
            sessions[plan].run(["logits"], {"pixels": pixels})
            found[plan] |= {"cpu_s": time.thread_time() - cpu, "wall_s": time.perf_counter() - wall}
    for plan, said in found.items():
        said["kl"] = _divergence(logits[WHOLE], logits[plan])
    return found


def _divergence(whole: np.ndarray, cut: np.ndarray) -> float:
    """Kullback-Leibler, in nats."""
    a, b = (one - np.logaddexp.reduce(one) for one in (whole, cut))
    return float((np.exp(a) * (a - b)).sum())


def _photographs(asked: Asked) -> Iterator[tuple[str, Image.Image, int]]:
    """(name, picture, class), in the order of the file of labels."""
    with zipfile.ZipFile(asked.photographs) as file, asked.labels.open(encoding="utf-8") as lines:
        inside = {Path(name).name: name for name in file.namelist()}
        for row in list(csv.DictReader(lines))[: asked.limit]:
            if row["file"] in inside:
                yield row["file"], Image.open(io.BytesIO(file.read(inside[row["file"]]))), int(row["label"])


def _share_weights(folder: Path, whole: Path) -> None:
    """Keep the weights of all plans as one file: they are the same, and of a large model too many."""
    mine, theirs = (one / "weights.bin" for one in (folder, whole))
    if filecmp.cmp(mine, theirs, shallow=False):
        mine.unlink()
        mine.hardlink_to(theirs)


def _folder(asked: Asked, plan: str, precision: str) -> Path:
    return asked.work / precision / plan.replace(":", "_").replace(",", "-")


def _session(folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
