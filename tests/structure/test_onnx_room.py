"""One room walks ONNX graphs, infers shapes and folds constants: `edgeprune_export/onnx`. Everybody else asks it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.test_import_arrows import PACKAGES, imported

ROOM = PACKAGES["edgeprune_export"] / "onnx"
#: What goes into bodies, infers, folds or inlines; of ONNX and of its intermediate representation.
WALKING = {
    *("AttributeProto", "AttributeType", "RecursiveGraphIterator", "as_graph", "as_graphs", "subgraphs", "all_nodes"),
    *("infer_shapes", "infer_node_outputs", "ReferenceEvaluator", "inliner", "fold_constants"),
    *("inline_local_functions", "extract_model", "Extractor"),
}
OWN = {"walk", "shapes", "folding", "extract", "static"}


def sources() -> list[Path]:
    found = [path for folder in PACKAGES.values() for path in sorted(folder.rglob("*.py"))]
    assert len(found) > 100
    return found


def walks(text: str) -> Iterator[str]:
    """What a source does by itself that is the room's: names from ONNX, fields that hold bodies, the contributed domain as text."""
    tree = ast.parse(text)
    asked = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeprune_export.onnx.")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WALKING | {"g"}:
            yield f"{node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "graphs":
            yield f"{node.lineno}: .graphs()"
        elif isinstance(node, ast.Name) and node.id in WALKING - asked:
            yield f"{node.lineno}: {node.id}"
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("edgeprune_export.onnx."):
            yield from (f"{node.lineno}: {a.name}" for a in node.names if a.name in WALKING)
        elif isinstance(node, ast.Import):
            parts = {part for alias in node.names for part in alias.name.split(".")}
            yield from (f"{node.lineno}: {part}" for part in sorted(parts & WALKING))
        elif isinstance(node, ast.Constant) and node.value == "com.microsoft":
            yield f"{node.lineno}: {node.value!r}"


@pytest.mark.parametrize(
    "text",
    [
        "bodies = [a.g for a in node.attribute if a.HasField('g')]",
        "if entry.type == onnx.AttributeProto.GRAPH: pass",
        "import onnx\nonnx.shape_inference.infer_shapes(model)",
        "from onnx.shape_inference import infer_shapes",
        "import onnx.inliner",
        "from onnx import inliner",
        "for node in ir.traversal.RecursiveGraphIterator(graph): pass",
        "for graph in model.graphs(): pass",
        "CONTRIB = 'com.microsoft'",
    ],
)
def test_a_walker_is_recognised(text: str) -> None:
    assert list(walks(text))


def test_who_asks_the_room_is_no_walker() -> None:
    assert not list(walks("from edgeprune_export.onnx.walk import all_nodes\nnodes = list(all_nodes(model.graph))"))


def test_nobody_outside_the_room_walks_bodies_or_infers_shapes() -> None:
    guilty = {
        str(path): found
        for path in sources()
        if ROOM not in path.parents and (found := list(walks(path.read_text(encoding="utf-8"))))
    }
    assert guilty == {}


def test_the_contributed_domain_is_written_once() -> None:
    assert [path.name for path in sources() if '"com.microsoft"' in path.read_text(encoding="utf-8")] == ["graph.py"]


def test_the_room_knows_none_of_those_who_ask_it() -> None:
    names = {name for path in ROOM.glob("*.py") for name in imported(path)}
    rooms = {name.split(".")[1] for name in names if name.startswith("edgeprune_export.")}
    assert rooms == {"onnx"}
    assert {path.stem for path in ROOM.glob("*.py")} >= OWN


def test_pruning_of_onnx_files_is_nobodys_library() -> None:
    pruning = PACKAGES["edgeprune_export"] / "onnx_pruning"
    guilty = [
        f"{path}: {name}"
        for path in sorted(PACKAGES["edgeprune_export"].rglob("*.py"))
        if pruning not in path.parents
        for name in imported(path)
        if name.startswith("edgeprune_export.onnx_pruning")
    ]
    assert guilty == []


def test_lowering_linting_and_counting_need_neither_torch_nor_what_traces_it() -> None:
    script = """
import sys
for name in ("torch", "transformers", "onnxscript", "safetensors", "accelerate", "huggingface_hub"):
    sys.modules[name] = None
import edgeprune_export.bundle.roofline_counts, edgeprune_export.engines.bisect, edgeprune_export.engines.build
import edgeprune_export.engines.rules.dialect, edgeprune_export.engines.selftest, edgeprune_export.onnx_pruning.prune
"""
    path = [str(folder.parent) for folder in PACKAGES.values()]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
