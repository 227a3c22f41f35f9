"""Rules about the files themselves: size, docstrings, and nothing about the machine they were written on."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("edgeprune", "export/edgeprune_export", "runtime/edgeprune_runtime", "profiles/edgeprune_profiles")
SOURCES = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
LONGEST = 300
#: Home of the machine that the project is developed on, spelled so that this file does not hold it.
FOREIGN = ("/wor" + "k/", "/ro" + "ot/", "/ho" + "me/")


def tracked() -> list[Path]:
    """Files of the repository; outside a git checkout, the sources."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        return [ROOT / name for name in SOURCES]
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_is_short_and_says_what_it_is_for(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST
    assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_no_tracked_file_names_a_folder_of_one_machine() -> None:
    guilty = []
    for path in tracked():
        text = path.read_bytes()
        if b"\0" in text[:4096]:
            continue
        guilty += [f"{path.relative_to(ROOT)}: {part}" for part in FOREIGN if part.encode() in text]
    assert not guilty


def test_the_packages_leave_nothing_for_later() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    guilty = [name for name in SOURCES if any(word in (ROOT / name).read_text(encoding="utf-8") for word in words)]
    assert not guilty


def test_no_folder_holds_more_than_fifteen_modules() -> None:
    folders = Counter(name.rpartition("/")[0] for name in SOURCES if not name.endswith("__init__.py"))
    assert {folder: count for folder, count in folders.items() if count > 15} == {}


def test_a_public_class_name_means_one_thing_in_all_packages() -> None:
    homes: dict[str, set[str]] = {}
    for name in SOURCES:
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:
            for public in _public_types(node):
                homes.setdefault(public, set()).add(name)
    assert {public: sorted(files) for public, files in homes.items() if len(files) > 1} == {}


def _public_types(node: ast.stmt) -> list[str]:
    """Names of classes and of type aliases (capitalised, not constants) that a statement defines."""
    if isinstance(node, ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    else:
        names = []
    return [name for name in names if name[0].isupper() and not name.isupper() and len(name) > 1]
