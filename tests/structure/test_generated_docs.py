"""What a page says was generated is what the command prints today."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from edgeprune.models.families import FAMILIES
from tests.commands import invoke

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = re.compile(r"^<!-- generated: edgeprune (.+) -->\n(.*?)^<!-- end -->$", re.M | re.S)
#: Longest README, in lines: what it is for, two commands, one table, links.
LONGEST = 150


def generated() -> list[tuple[Path, str, str]]:
    """(page, words of the command, text between the markers)."""
    return [(page, words, text) for page in PAGES for words, text in GENERATED.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("page", "words", "text"), [pytest.param(*case, id=f"{case[0].name}: {case[1]}") for case in generated()]
)
def test_a_generated_part_is_what_its_command_prints(
    page: Path, words: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fenced part is what a terminal of 100 columns shows."""
    fenced = re.fullmatch(r"```text\n(.*?)```", text.strip(), re.S)
    if fenced:
        monkeypatch.setenv("COLUMNS", "100")
    printed = invoke(*shlex.split(words))
    assert printed.exit_code == 0
    shown, now = (
        [line.rstrip() for line in part.replace("\N{NO-BREAK SPACE}", " ").strip().splitlines()]
        for part in (fenced[1] if fenced else text, printed.stdout)
    )
    assert shown == now, f"paste `edgeprune {words}` into {page.name}, between its markers"


def test_the_front_page_shows_a_board_for_a_model_of_real_size() -> None:
    """Its numbers are those of a model that people deploy, not of the small reference one."""
    (words,) = [words for page, words, _ in generated() if page.name == "README.md"]
    assert words.startswith("recommend llava-onevision-0.5b ")


def test_the_table_of_methods_is_generated_and_every_marker_is_closed() -> None:
    assert ("methods.md", "methods --as-markdown") in {(page.name, words) for page, words, _ in generated()}
    for page in PAGES:
        text = page.read_text("utf-8")
        assert text.count("<!-- generated:") == len(GENERATED.findall(text)) == text.count("<!-- end -->"), page


def test_the_readme_is_short_and_its_table_has_every_family() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST
    (table,) = re.findall(r"(?:^\|.*\n)+", text, re.M)
    rows = {
        cells[1].strip().partition("`")[2].partition("`")[0]: cells[0]
        for cells in map(cells_of, table.splitlines()[2:])
    }
    assert set(rows) == set(FAMILIES)
    for name, title in rows.items():
        assert FAMILIES[name].title.lower() in title.lower()


def cells_of(row: str) -> list[str]:
    return row.strip("|").split("|")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)", text):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text("utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor
