"""The runtime answers in a process in which torch, transformers and onnx cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgeprune_runtime import Model

BLOCKED = (
    "torch",
    "transformers",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "accelerate",
    "safetensors",
    "huggingface_hub",
    "edgeprune_export",
)
SCRIPT = """
import importlib, json, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

BLOCKED = set(sys.argv[2:])
sys.meta_path.insert(0, Blocker())
import edgeprune_runtime, edgeprune_profiles
for package in (edgeprune_runtime, edgeprune_profiles):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)

import numpy as np
picture = (np.arange(90 * 130 * 3) % 251).astype(np.uint8).reshape(90, 130, 3)
with edgeprune_runtime.Model.open(sys.argv[1], threads=1) as model:
    seen = model.ask("what is the number?", image=picture, budget=0.5, max_tokens=6)
    text = model.ask("say a word", max_tokens=6)

from edgeprune_profiles.boards.device_file import load_device
from edgeprune_profiles.boards.from_runs import ProjectedRequest, project_on, samples_of
bundle = edgeprune_runtime.Bundle.open(sys.argv[1])
board, request = load_device("orin-nano-8gb"), ProjectedRequest("what is the number?", 3, None)
projected = [stage.stage for stage in project_on(board, bundle, "0.2", request, (), samples_of((), None)).stages]
loaded = sorted(BLOCKED & {name.partition(".")[0] for name in sys.modules})
print(json.dumps({"seen": seen.token_ids, "text": text.token_ids, "projected": projected, "loaded": loaded}))
"""


def test_a_bundle_runs_and_is_projected_without_torch_transformers_or_onnx(tiny_bundle: Path, opened: Model) -> None:
    import numpy as np

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_bundle), *BLOCKED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["loaded"] == []
    assert said["projected"] == ["tower", "select", "prefill", "decode"], "work is in the manifest"
    picture = (np.arange(90 * 130 * 3) % 251).astype(np.uint8).reshape(90, 130, 3)
    assert tuple(said["seen"]) == opened.ask("what is the number?", image=picture, budget=0.5, max_tokens=6).token_ids
    assert tuple(said["text"]) == opened.ask("say a word", max_tokens=6).token_ids


def test_importing_the_runtime_loads_nothing_heavy_until_it_is_used() -> None:
    script = "import sys, edgeprune_runtime; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "tokenizers", "PIL", "numpy", "torch"} & set(done.stdout.split())
