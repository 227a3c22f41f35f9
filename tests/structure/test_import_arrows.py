"""Which package may import which, read from the source: imports inside functions count too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "edgeprune": ROOT / "edgeprune",
    "edgeprune_export": ROOT / "export/edgeprune_export",
    "edgeprune_runtime": ROOT / "runtime/edgeprune_runtime",
    "edgeprune_profiles": ROOT / "profiles/edgeprune_profiles",
}
ALLOWED = {
    "edgeprune": {"edgeprune_runtime"},
    "edgeprune_export": {"edgeprune", "edgeprune_runtime"},
    "edgeprune_runtime": set(),
    "edgeprune_profiles": {"edgeprune_runtime"},
}
#: What the base install brings, by import name; the runtime and the profiles need nothing else.
BASE = {"numpy", "onnxruntime", "PIL", "tokenizers", "jinja2", "msgspec", "psutil"}
#: What a GPU brings: imported by name, in the function that needs it, by the files of backends only.
VENDORS = {"cuda", "tensorrt", "tensorrt_rtx"}
HEAVY = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "accelerate", "safetensors", "huggingface_hub"}


def modules(package: str) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    assert found
    return found


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, literal `import_module` and `__import__` calls included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], (ast.Constant, ast.JoinedStr)):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value).rstrip(".")


def tops(paths: list[Path]) -> set[str]:
    return {name.partition(".")[0] for path in paths for name in imported(path)}


def in_cli(path: Path) -> bool:
    return PACKAGES["edgeprune"] / "cli" in path.parents


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package: str) -> None:
    paths = [path for path in modules(package) if not in_cli(path)]
    assert tops(paths) & set(PACKAGES) <= ALLOWED[package] | {package}


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    guilty = [
        f"{path}: {name}"
        for package in PACKAGES
        for path in modules(package)
        if not in_cli(path)
        for name in imported(path)
        if name == "edgeprune.cli" or name.startswith("edgeprune.cli.")
    ]
    assert not guilty


@pytest.mark.parametrize("package", ["edgeprune_runtime", "edgeprune_profiles"])
def test_what_runs_on_the_board_needs_only_the_base_install(package: str) -> None:
    foreign = tops(modules(package)) - set(sys.stdlib_module_names) - set(PACKAGES)
    assert foreign <= BASE | VENDORS
    assert not tops([path for path in modules(package) if path.parent.name != "backends"]) & VENDORS


def test_no_file_imports_a_vendors_package_when_it_is_itself_imported() -> None:
    for package in PACKAGES:
        for path in modules(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.partition(".")[0] for name in names} & VENDORS, path


def test_the_command_line_imports_heavy_packages_nowhere_at_the_top_of_a_module() -> None:
    for path in modules("edgeprune"):
        if not in_cli(path):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & (HEAVY | {"edgeprune_export"}), path


def test_reading_a_checkpoint_needs_neither_torch_nor_transformers() -> None:
    paths = [path for path in modules("edgeprune") if "models" in path.parts]
    assert paths
    assert not tops(paths) & {"torch", "transformers", "onnx"}


def test_base_dependencies_are_those_that_the_packages_declare() -> None:
    declared = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("dependencies = [")[2].partition("\n]")[0]
    )
    distributions = {"PIL": "pillow"}
    missing = [
        name for name in BASE | {"typer", "rich", "packaging"} if f'"{distributions.get(name, name)}>=' not in declared
    ]
    assert not missing
