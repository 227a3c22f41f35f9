"""The README is a promise: every command block in it runs, in order, in one scratch folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHECKPOINT = ROOT / "tools" / "reference_vlm" / "checkpoint"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("tools", "docs", "Makefile", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("edgeprune", "export", "runtime", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(command: str, folder: Path, timeout: int = 400) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_edgeprune_and_python_command_of_the_readme_runs_in_order(scratch: Path) -> None:
    own = [line for line in commands() if line.startswith(("edgeprune ", "python ", "cp "))]
    assert len(own) >= 10
    for line in own:
        run(line, scratch)
    assert (scratch / "report.html").stat().st_size > 10_000
    assert (scratch / "kept.png").is_file()


def test_the_python_example_of_the_readme_runs_on_the_bundle_of_its_commands(scratch: Path) -> None:
    example, _method = blocks("python")
    assert (scratch / "reference.bundle").is_dir(), "the command blocks come first"
    (scratch / "example.py").write_text(example, encoding="utf-8")
    assert run(f"{sys.executable} example.py", scratch).strip()


def test_the_method_of_the_readme_is_the_example_file() -> None:
    _example, method = blocks("python")
    assert (ROOT / "docs" / "examples" / "mine.py").read_text(encoding="utf-8").endswith(method)
    assert len([line for line in method.splitlines() if line.strip()]) <= 10


def test_the_table_of_methods_is_what_the_command_prints() -> None:
    from edgeprune.tokens.methods import METHODS
    from edgeprune.tokens.registry.describe import markdown_table

    assert markdown_table([METHODS[name] for name in METHODS]) in README, "paste `edgeprune methods --as-markdown`"


def test_make_demo_ends_with_an_answer_and_a_report(tmp_path: Path) -> None:
    environment = Path(sys.executable).parent.parent
    if not (environment / "installed").is_file():
        pytest.skip("not in the environment that make created; `make test` runs this")
    run(f"make -C {ROOT} demo VENV={environment} DEMO={tmp_path / 'demo'}", tmp_path)
    assert (tmp_path / "demo" / "report.html").is_file()


def test_the_base_install_answers_from_a_bundle_without_torch(scratch: Path, tmp_path: Path) -> None:
    """`pip install .` in a fresh environment, then a question to the bundle that the commands above exported."""
    (install, *_rest) = [line for line in commands() if line.startswith("pip install")]
    run(f"{sys.executable} -m venv fresh", tmp_path)
    fresh = tmp_path / "fresh" / "bin"
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "demo", "checkpoint", "__pycache__"))
    run(f"{fresh}/{install.replace('pip install .', f'pip install --quiet {source}')}", tmp_path)
    bundle, picture = scratch / "reference.bundle", ROOT / "docs" / "images" / "scene.png"
    answer = run(
        f'{fresh}/edgeprune run {bundle} --image {picture} --prompt "which word is in the picture?" --json', tmp_path
    )
    assert '"text"' in answer
    for package in ("torch", "transformers", "onnx"):
        missing = subprocess.run([f"{fresh}/python", "-c", f"import {package}"], capture_output=True)
        assert missing.returncode != 0, f"{package} came with the base install"
