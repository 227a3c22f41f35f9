"""What is special to a model family stands in its own file: no other product code knows a family's name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.models.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("edgeprune", "export/edgeprune_export", "runtime/edgeprune_runtime", "profiles/edgeprune_profiles")
#: Where families, and the rules of tiles that follow theirs, are at home.
HOMES = (ROOT / "edgeprune/models/families", ROOT / "runtime/edgeprune_runtime/pictures/tiling")


def plain(text: str) -> str:
    """ "LLaVA-NeXT", "llava_next" and "LlavaNext" are one name."""
    return re.sub(r"[-_. ]", "", text).lower()


def names() -> set[str]:
    """What every family is called, in config.json and by people."""
    families = [FAMILIES.get(name) for name in FAMILIES]
    return {plain(text) for family in families for text in (family.name, family.title)}


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the nodes that are prose: texts that stand as statements of their own."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def identifiers(node: ast.AST) -> Iterator[str]:
    """Names that this node binds or uses."""
    for field in ("id", "attr", "name", "arg", "asname", "module"):
        value = getattr(node, field, None)
        if isinstance(value, str):
            yield value


def mentions(source: str) -> list[tuple[int, str]]:
    """(line, text) of every string literal that holds a family's name as a word, and of every identifier made with one."""
    found, tree, known = [], ast.parse(source), names()
    prose = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            # A word may have hyphens and points in it: "LLaVA-NeXT" is one, and so is "LLaVA-PruMerge", which is no family.
            words = re.findall(r"[A-Za-z][\w.-]*", node.value)
            found += [(line, word) for word in words if plain(word) in known]
        found += [(line, name) for name in identifiers(node) if any(family in plain(name) for family in known)]
    return found


@pytest.mark.parametrize("folder", PRODUCT)
def test_no_family_is_named_outside_its_home(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*.py")) if not any(home in path.parents for home in HOMES)]
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}" for path in files for line, text in mentions(path.read_text("utf-8"))
    ]
    assert found == []


def test_the_names_are_those_that_people_and_files_use() -> None:
    assert {"llava", "llavanext", "llavaonevision", "internvl", "smolvlm", "idefics3", "llava15"} <= names()


def test_families_do_name_themselves_at_home() -> None:
    for name in FAMILIES:
        known = [mentions(path.read_text("utf-8")) for path in HOMES[0].glob("*.py")]
        assert any(plain(text) == plain(name) for file in known for _, text in file), name


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 'llava'", "llava"),
        ("raise E(f'{y} is no LLaVA-NeXT model')", "LLaVA-NeXT"),
        ("help = 'Folder (InternVL, hub id)'", "InternVL"),
        ("if family == 'smolvlm': pass", "smolvlm"),
        ("def is_llava(): pass", "is_llava"),
        ("class LlavaGate: pass", "LlavaGate"),
        ("from a.idefics3 import b", "a.idefics3"),
        ("import a as internvl", "internvl"),
        ("x.llava_next", "llava_next"),
        ("f(smolvlm=1)", "smolvlm"),
    ],
)
def test_a_name_is_found(source: str, text: str) -> None:
    assert text in [found for _, found in mentions(source)]


@pytest.mark.parametrize(
    "source",
    [
        "'''As LLaVA has it.'''",
        "def f():\n    'of LLaVA'",
        "x = 1  # like InternVL",
        "x = 'LLaVA-PruMerge'",
        "x = 'internet'",
    ],
)
def test_prose_and_other_words_are_none(source: str) -> None:
    assert mentions(source) == []
