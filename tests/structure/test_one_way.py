"""Chores that are done in one place: writing a file whole, registering names, intervals, versions, the command line."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = "runtime/edgeprune_runtime"
FOLDERS = ("edgeprune", "export/edgeprune_export", RUNTIME, "profiles/edgeprune_profiles")
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
}
Find = Callable[[ast.AST], bool]


def calls(*names: str) -> Find:
    """A call of one of these functions or methods, by its last name."""

    def found(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return name in names

    return found


def renames(node: ast.AST) -> bool:
    """A path gets another name. `replace` of a string has two arguments, that of frozen data has names."""
    if calls("rename", "renames")(node):
        return True
    if not calls("replace")(node):
        return False
    assert isinstance(node, ast.Call)
    of_os = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "os"
    return of_os or (len(node.args) == 1 and not node.keywords)


def appends(node: ast.AST) -> bool:
    """A file is opened to be appended to."""
    if not isinstance(node, ast.Call) or not calls("open")(node):
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return any(isinstance(one, ast.Constant) and one.value in ("a", "ab", "at", "a+", "ab+") for one in given)


def says(*beginnings: str) -> Find:
    """A message that is put together begins with, or holds, one of these."""

    def found(node: ast.AST) -> bool:
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        return any(text.startswith(one) for one in beginnings)

    return found


def hand_written_unknown(node: ast.AST) -> bool:
    """f"unknown thing {name!r} ...": the sentence that `registry.unknown` writes. "unknown: why" is another thing."""
    if not isinstance(node, ast.JoinedStr) or len(node.values) < 2 or not isinstance(node.values[0], ast.Constant):
        return False
    first = str(node.values[0].value)
    return first.startswith("unknown ") and first.endswith(" ")


def reads_arguments(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "argv"


def names_error(node: ast.AST) -> bool:
    return "PackageNotFoundError" in (getattr(node, "attr", ""), getattr(node, "id", ""))


def places(find: Find) -> Iterator[str]:
    return (name for name, tree in TREES.items() if any(find(node) for node in ast.walk(tree)))


HOMES: dict[str, tuple[Find, set[str]]] = {
    # seal exchanges whole folders; build moves a file inside one that is not published yet
    "a file gets another name": (
        renames,
        {
            f"{RUNTIME}/files.py",
            "export/edgeprune_export/bundle/seal.py",
            "export/edgeprune_export/engines/build.py",
        },
    ),
    "flushing to disk": (calls("fsync"), {f"{RUNTIME}/files.py"}),
    "temporary files": (calls("mkstemp", "NamedTemporaryFile"), set()),
    "lines are appended": (appends, {f"{RUNTIME}/files.py"}),
    "names are looked up": (
        calls("get_close_matches", "entry_points", "spec_from_file_location"),
        {f"{RUNTIME}/registry.py"},
    ),
    "guesses at a name": (says("; did you mean", "did you mean"), {f"{RUNTIME}/registry.py"}),
    "an unknown name": (hand_written_unknown, {f"{RUNTIME}/registry.py"}),
    "the bootstrap": (lambda node: isinstance(node, ast.arg) and node.arg == "resamples", {f"{RUNTIME}/statistics.py"}),
    # the doctor asks what edgeprune itself requires, which is no version
    "versions": (names_error, {f"{RUNTIME}/installed.py", "edgeprune/doctor.py"}),
    # two modules are started as processes of their own and read there what to do
    "the command line": (
        reads_arguments,
        {
            "edgeprune/cli/console.py",
            f"{RUNTIME}/meters/power/sampler.py",
            "profiles/edgeprune_profiles/measure/separate_memory.py",
        },
    ),
}


@pytest.mark.parametrize("chore", HOMES)
def test_a_chore_has_one_home(chore: str) -> None:
    find, homes = HOMES[chore]
    assert set(places(find)) == homes


@pytest.mark.parametrize(
    ("find", "source", "found"),
    [
        (renames, "a.replace(b)", True),
        (renames, "os.replace(a, b)", True),
        (renames, "part.rename(out)", True),
        (renames, "text.replace('a', 'b')", False),
        (renames, "dataclasses.replace(plan, k=3)", False),
        (renames, "replace(plan, k=3)", False),
        (appends, "path.open('ab')", True),
        (appends, "open(path, 'a')", True),
        (appends, "path.open('rb')", False),
        (hand_written_unknown, "f'unknown thing {name!r}; known: {known}'", True),
        (hand_written_unknown, "f'unknown: {why}'", False),
        (says("; did you mean"), "f'{a}; did you mean {b}?'", True),
    ],
)
def test_the_finders_find_what_they_say(find: Find, source: str, found: bool) -> None:
    assert any(find(node) for node in ast.walk(ast.parse(source))) is found
