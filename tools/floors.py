"""Are the lowest versions that pyproject.toml declares true? An environment that holds just these, and tests that prove it.

    python tools/floors.py base             # the base install: runtime, instruments, reports, commands that need no torch
    python tools/floors.py export           # exporting and pruning too: some 6 GB of packages
    python tools/floors.py base --newest    # the same with the newest versions that the declared ranges allow

The versions are taken from pyproject.toml anew each time: of what edgeprune itself requires the declared lowest (where a package asks for
more than edgeprune does, what it asks for), of what those require the newest. uv resolves them; they are left in the work folder.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {"base": (), "export": ("export", "recover")}
TEST_TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "filelock", "matplotlib")
#: Folders whose tests need no more than the base install, but for files that import what it lacks.
BASE_FOLDERS = ("tests/runtime", "tests/profiles", "tests/evaluate", "tests/cli")
EXPORT_FILES = (
    "tests/runtime/test_model.py",
    "tests/runtime/test_bundle.py",
    "tests/tokens/test_methods_in_onnxruntime.py",
    "tests/export/test_parity_gate.py",
    "tests/export/test_static_graphs.py",
    "tests/pruning/test_pruned_checkpoints.py",
    "tests/pruning/test_recovery.py",
    "tests/export/onnx_pruning/test_onnx_pruning_file.py",
    "tests/models/test_checkpoint_open.py",
)
#: Compares a committed page with what the newest msgspec writes.
_GENERATED = "tests/profiles/test_schema.py::test_the_published_file_is_what_the_types_say"
_BEYOND_BASE = re.compile(
    r"^\s*(?:import|from) (?:onnx|torch|edgeprune_export|tools\.checkpoints|tests\.(?:checkpoints|exports|torchlib))\b"
    r"|^\s*from tests import .*\b(?:checkpoints|exports)\b",
    re.MULTILINE,
)


def floors_of(kind: str, pyproject: str) -> dict[str, str]:
    """Declared lowest versions of a kind of install, by package: {"torch": "2.6"}."""
    project = tomllib.loads(pyproject)["project"]
    texts = [
        *project["dependencies"],
        *(one for extra in EXTRAS[kind] for one in project["optional-dependencies"][extra]),
    ]
    found = (re.match(r"([\w.-]+)>=([\w.]+)", text.partition(";")[0]) for text in texts)
    return {match[1]: match[2] for match in found if match}


def resolve(kind: str, work: Path) -> dict[str, str]:
    """The declared floors that go together, in their order: one that another package asks more than is left to what that asks for."""
    kept: dict[str, str] = {}
    for name, version in floors_of(kind, (ROOT / "pyproject.toml").read_text(encoding="utf-8")).items():
        if _compiled(kind, {**kept, name: version}, work / "tried.txt", check=False):
            kept[name] = version
        else:
            print(f"{name}>={version}: others ask for more", flush=True)
    return kept


def _compiled(kind: str, pinned: dict[str, str], out: Path, *, newest: bool = False, check: bool = True) -> bool:
    """Exact versions of everything into `out`, with those that are pinned."""
    floors = out.with_name("floors.txt")
    floors.write_text("".join(f"{name}=={version}\n" for name, version in pinned.items()), encoding="utf-8")
    extras = [word for extra in EXTRAS[kind] for word in ("--extra", extra)]
    lowest = [] if newest else ["--resolution", "lowest-direct", "--constraint", str(floors)]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    words = [
        "pip",
        "compile",
        "pyproject.toml",
        *extras,
        *lowest,
        "--python-version",
        python,
        "--output-file",
        str(out),
    ]
    return _uv(*words, "--quiet", "--upgrade", check=check)


def files_of(kind: str, root: Path = ROOT) -> list[str]:
    """Test files that prove a kind of install."""
    if kind == "export":
        return list(EXPORT_FILES)
    files = sorted(path for folder in BASE_FOLDERS for path in (root / folder).rglob("test_*.py"))
    return [
        path.relative_to(root).as_posix() for path in files if not _BEYOND_BASE.search(path.read_text(encoding="utf-8"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=EXTRAS)
    parser.add_argument("--newest", action="store_true", help="the newest versions instead of the lowest")
    parser.add_argument("--work", type=Path, default=Path("build/floors"))
    asked = parser.parse_args()
    name = f"{asked.kind}-{'newest' if asked.newest else 'lowest'}"
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    constraints, environment = work / f"{name}.txt", work / name
    pinned = {} if asked.newest else resolve(asked.kind, work)
    _compiled(asked.kind, pinned, constraints, newest=asked.newest)
    _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    _uv("pip", "install", "--quiet", "--python", str(python), "--requirement", str(constraints), *TEST_TOOLS)
    _uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", "--editable", str(ROOT))
    chosen = ["-m", "not export and not slow and not alone", "--deselect", _GENERATED] if asked.kind == "base" else []
    cache = ["-o", f"cache_dir={work / f'{name}-cache'}"]
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *files_of(asked.kind), *chosen, *cache], cwd=ROOT, env=settings
    )
    print(f"versions: {constraints}")
    sys.exit(done.returncode)


def _uv(*words: str, check: bool = True) -> bool:
    said = None if check else subprocess.DEVNULL
    return (
        subprocess.run([sys.executable, "-m", "uv", *words], cwd=ROOT, check=check, stderr=said, stdout=said).returncode
        == 0
    )


if __name__ == "__main__":
    main()
