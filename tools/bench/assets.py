"""The models, bundles and pictures that benchmarks run on, made once per state of the code and kept in the work folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tools.bench.process import Watched, python, run_watched
from tools.bench.settings import Settings, digest, say

BUDGETS = ("1.0", "0.4", "0.2", "0.1")
CHUNK = 128  # positions per run of the prefill graph, as the command line has it
QUESTION = "What is the number in the picture?"
_MAKERS = ("tools/checkpoints",)
_EXPORTERS = (
    "edgeprune/plan.py",
    "edgeprune/models",
    "edgeprune/tokens",
    "export",
    "runtime/edgeprune_runtime/spec.py",
)


def picture(settings: Settings) -> Path:
    """A square picture: with LLaVA-NeXT's grids it fills the thumbnail and all four tiles, so nothing is padding."""
    path = settings.work / "picture.png"
    if not path.is_file():
        coarse = np.random.default_rng(0).integers(0, 256, (25, 25, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((1000, 1000), Image.Resampling.BICUBIC).save(path)
    return path


def checkpoint(settings: Settings, size: str) -> Path:
    """A made LLaVA-NeXT in float16: CLIP-like tower, Qwen2-shaped decoder with tied embeddings."""
    name = f"model-{size}" + (f"-{settings.layers}" if settings.layers else "")
    folder = settings.work / f"{name}@{digest(_MAKERS)}"
    if not folder.is_dir():
        say(f"making {name}")
        partial = _room(folder)
        options = ["--size", size, "--decoder", "qwen2", "--tied", "--dtype", "float16", "--names", "new"]
        options += ["--layers", str(settings.layers)] if settings.layers else []
        run_watched(python("tools/make_checkpoint.py", str(partial), *options), settings.work / "make.log")
        partial.rename(folder)
    return folder


def bundle(
    settings: Settings,
    precision: str,
    budgets: Sequence[str] = BUDGETS,
    chunk: int = CHUNK,
    more: Sequence[str] = (),
) -> Path:
    """A bundle of the model of size `settings.size`, exported by the command line without the parity gate; `more` words of it."""
    model = checkpoint(settings, settings.size)
    name = f"bundle-{model.name.partition('@')[0].removeprefix('model-')}-{precision}-{'_'.join(budgets)}"
    name += "" if chunk == CHUNK else f"-chunk{chunk}"
    name += "".join(f"-{re.sub('[^0-9a-z.]+', '_', word.strip('-'))}" for word in more)
    folder = settings.work / f"{name}@{digest((*_MAKERS, *_EXPORTERS))}"
    if not folder.is_dir():
        say(f"exporting {name}")
        partial = _room(folder)
        export(
            model,
            partial,
            precision,
            budgets,
            settings.work / "export.log",
            "--no-parity",
            "--chunk",
            str(chunk),
            *more,
        )
        partial.rename(folder)
    return folder


def family_bundle(settings: Settings, size: str, precision: str, budgets: Sequence[str]) -> Path:
    """A bundle of a made checkpoint whose size names its family, budgets counted from each picture's own tokens."""
    folder = settings.work / f"bundle-{size}-{precision}-{'_'.join(budgets)}@{digest((*_MAKERS, *_EXPORTERS))}"
    if not folder.is_dir():
        model = settings.work / f"model-{size}@{digest(_MAKERS)}"
        if not model.is_dir():
            say(f"making {model.name}")
            partial = _room(model)
            run_watched(python("tools/make_checkpoint.py", str(partial), "--size", size), settings.work / "make.log")
            partial.rename(model)
        say(f"exporting {folder.name}")
        partial = _room(folder)
        more = ("--no-parity", "--no-controls", "--method", "divprune", "--budget-of", "picture")
        export(model, partial, precision, budgets, settings.work / "export.log", *more)
        partial.rename(folder)
    return folder


def export(
    model: Path,
    out: Path,
    precision: str,
    budgets: Iterable[str],
    log: Path,
    *more: str,
    enter: Callable[[list[str]], list[str]] = list,
) -> Watched:
    """`edgeprune export` in a process of its own; `enter` makes of the command one that runs in a control group."""
    chosen = [part for budget in budgets for part in ("--budget", budget)]
    program = python("-c", "from edgeprune.cli import main; main()", "export", str(model), "--out", str(out))
    return run_watched(enter([*program, "--weights", precision, *chosen, *more]), log)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _room(folder: Path) -> Path:
    """An unused sibling to build in; what other states of the code left under the same name is removed."""
    stem = folder.name.partition("@")[0]
    for old in folder.parent.glob(f"{stem}@*"):
        shutil.rmtree(old)
    return folder.parent / f"{stem}@partial-{os.getpid()}"
