"""README and usage are promises: every command block in them runs, section by section, each in a scratch folder of its own.

A section starts with the files that commands of earlier sections of its page write and its own commands name, made by those commands;
so sections may run in any order and side by side. Within a section its blocks run in order.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kept import kept

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/usage.md")
OWN = ("edgeprune ", "python ", "cp ")  # other commands install, or are `make` targets
LINKED = ("tools", "docs", "Makefile", "pyproject.toml", "README.md", "LICENSE")
PACKAGES = ("edgeprune", "export", "runtime", "profiles")


@dataclass(frozen=True)
class Block:
    """One command block: its page and the section it stands in, its number there, its lines."""

    page: str
    section: str
    number: int
    lines: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.page}: {self.section}"


def blocks(language: str) -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        for section in re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)[1:]:
            title = section.partition("\n")[0]
            texts = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
            found += [Block(page, title, i, tuple(text.splitlines())) for i, text in enumerate(texts, 1)]
    return found


def own_lines(block: Block) -> list[str]:
    return [line for line in block.lines if line.startswith(OWN)]


COMMANDS = [block for block in blocks("sh") if own_lines(block)]
METHOD, EXAMPLE = blocks("python")


def product(line: str) -> str | None:
    """What a command writes for others."""
    asked = re.search(r"--out (\S+)", line)
    return asked[1] if asked else None


def named(line: str) -> set[str]:
    """What a line may name: each path by its first part."""
    return {word.partition("/")[0] for word in re.split(r"[\s,\"'()]+", line)}


def lines_of(page: str) -> list[str]:
    return [line for block in COMMANDS if block.page == page for line in own_lines(block)]


def earlier(page: str, section: str) -> list[str]:
    """Commands of the page before this section."""
    here = [block for block in COMMANDS if block.page == page]
    first = next((i for i, block in enumerate(here) if block.section == section), len(here))
    return lines_of(page)[: sum(len(own_lines(block)) for block in here[:first])]


def makers(lines: list[str], before: list[str]) -> dict[str, str]:
    """What these lines name and commands before them write: name -> the command."""
    made = {name: line for line in reversed(before) if (name := product(line))}
    return {name: made[name] for line in lines for name in sorted(named(line) & made.keys())}


def brought(page: str, section: str) -> dict[str, str]:
    """What the commands of a section name and those of earlier sections write: name -> the command."""
    here = [b for b in (*COMMANDS, EXAMPLE) if (b.page, b.section) == (page, section)]
    return makers([line for block in here for line in block.lines], earlier(page, section))


#: Commands that write what other sections need.
SHARED = {line for block in (*COMMANDS, EXAMPLE) for line in brought(block.page, block.section).values()}


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


def linked(folder: Path) -> Path:
    """The folder, as if it were the repository's."""
    for name in (*LINKED, *PACKAGES):
        (folder / name).symlink_to(ROOT / name)
    return folder


def made_by(line: str) -> Path:
    """A folder that holds what a command writes where there is nothing but the repository and what the command names; read only."""
    name, page = product(line), next(page for page in PAGES if line in lines_of(page))
    assert name is not None
    needed = list(makers([line], lines_of(page)[: lines_of(page).index(line)]).values())

    def make(out: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = linked(Path(scratch))
            for other in needed:
                bring(other, folder)
            run(line, folder)
            out.mkdir()
            (folder / name).rename(out / name)

    return kept("page", [*needed, line], make)


def bring(line: str, folder: Path) -> None:
    """An own copy of what a command writes."""
    shutil.copytree(made_by(line), folder, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The folder of a section, with what it needs of earlier ones."""

    @functools.cache
    def of(page: str, section: str) -> Path:
        folder = linked(tmp_path_factory.mktemp("page"))
        for line in brought(page, section).values():
            bring(line, folder)
        return folder

    return of


def in_order(block: Block) -> Any:
    """One case: the blocks of a section run in one worker, so that each finds what those before it wrote."""
    return pytest.param(block, id=f"{block.place}, block {block.number}", marks=pytest.mark.xdist_group(block.place))


#: Sections that need nothing of others first: those that do wait less for it.
CASES = [in_order(block) for block in sorted(COMMANDS, key=lambda block: bool(brought(block.page, block.section)))]


@pytest.mark.parametrize("block", CASES)
def test_every_edgeprune_and_python_command_of_a_page_runs_in_order(
    block: Block, scratch: Callable[[str, str], Path]
) -> None:
    folder = scratch(block.page, block.section)
    for line in own_lines(block):
        if line in SHARED:
            bring(line, folder)
        else:
            run(line, folder)
        if page := re.search(r"--html (\S+)", line):
            assert (folder / page[1]).stat().st_size > 10_000
        if picture := re.search(r"--show-tokens (\S+)", line):
            assert (folder / picture[1]).is_file()


def test_the_pages_show_what_matters() -> None:
    lines = [line for block in COMMANDS for line in own_lines(block)]
    assert {block.page for block in COMMANDS} == set(PAGES) and len(lines) >= 30
    assert any("--html report.html" in line for line in lines) and any(
        "--show-tokens kept.png" in line for line in lines
    )
    assert SHARED, "sections that use the bundle of an earlier one find it"


def test_the_python_example_runs_on_the_bundle_of_its_page(scratch: Callable[[str, str], Path]) -> None:
    folder = scratch(EXAMPLE.page, EXAMPLE.section)
    (folder / "example.py").write_text("\n".join(EXAMPLE.lines), encoding="utf-8")
    assert run(f"{sys.executable} example.py", folder).strip()


def test_the_method_of_the_usage_page_is_the_example_file() -> None:
    method = "\n".join(METHOD.lines) + "\n"
    assert (ROOT / "docs" / "examples" / "mine.py").read_text(encoding="utf-8").endswith(method)
    assert len([line for line in METHOD.lines if line.strip()]) <= 10


def test_make_demo_ends_with_an_answer_and_a_report(tmp_path: Path) -> None:
    environment = Path(sys.executable).parent.parent
    if not (environment / "installed").is_file():
        pytest.skip("not in the environment that make created; `make test` runs this")
    run(f"make -C {ROOT} demo VENV={environment} DEMO={tmp_path / 'demo'}", tmp_path)
    assert (tmp_path / "demo" / "report.html").is_file()


def test_the_base_install_answers_from_a_bundle_without_torch(
    scratch: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """`pip install .` in a fresh environment, then a question to the bundle that a page's commands export."""
    (install,) = [line for block in blocks("sh") for line in block.lines if line.startswith("pip install .")]
    run(f"{sys.executable} -m venv fresh", tmp_path)
    fresh = tmp_path / "fresh" / "bin"
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "build", "demo", "checkpoint", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)
    run(f"{fresh}/{install.replace('pip install .', f'pip install --quiet {source}')}", tmp_path)
    bundle, picture = (
        scratch(EXAMPLE.page, EXAMPLE.section) / "reference.bundle",
        ROOT / "docs" / "images" / "scene.png",
    )
    answer = run(
        f'{fresh}/edgeprune run {bundle} --image {picture} --prompt "which word is in the picture?" --json', tmp_path
    )
    assert '"text"' in answer
    for package in ("torch", "transformers", "onnx"):
        missing = subprocess.run([f"{fresh}/python", "-c", f"import {package}"], capture_output=True)
        assert missing.returncode != 0, f"{package} came with the base install"
