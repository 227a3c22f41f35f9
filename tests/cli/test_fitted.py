"""Columns leave by rank, then rows become blocks; cells are never broken, sentences only between words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.cli.fitted import Column, say, show_fitted
from tests.commands import invoke

COLUMNS = [Column("name", left=True), Column("rate", rank=1), Column("long number", rank=2)]
ROWS = [["orin-nano-8gb-super", "12.5", "1234567890"], ["t4", "3", "1"]]


@pytest.mark.parametrize(
    ("columns", "head"),
    [(60, "name                 rate  long number"), (30, "name                 rate"), (20, "name")],
)
def test_columns_leave_by_rank(
    columns: int, head: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_fitted("Title", COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Title", head] and lines[2].startswith("orin-nano-8gb-super")
    assert max(map(len, lines)) <= columns


def test_where_not_even_what_must_stay_fits_rows_become_blocks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    show_fitted("Title", [Column("name"), Column("rate"), Column("size")], [["orin-nano-8gb-super", "12.5", "8"]])
    assert capsys.readouterr().out.splitlines() == ["Title", "orin-nano-8gb-super", "  rate 12.5, size 8", ""]


def test_a_column_of_sentences_wraps_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_fitted(
        "T",
        [Column("name", left=True), Column("why", wraps=True)],
        [["a", "too slow on orin-nano-8gb and too dear by far"]],
    )
    assert capsys.readouterr().out.splitlines()[2:4] == ["a     too slow on orin-nano-8gb and too", "      dear by far"]


def test_a_sentence_is_broken_in_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = "a sentence about orin-nano-8gb-super-kit " * 5
    say(text)
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setenv("COLUMNS", "50")
    say(text)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3 and all(
        line.endswith(("about", "a", "sentence", "orin-nano-8gb-super-kit")) for line in lines
    )


@pytest.mark.parametrize("columns", [60, 80])
def test_a_forecast_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("COLUMNS", str(columns))
    recipe = root / "docs/examples/small.toml"
    lines = invoke(
        "forecast", root / "tools/reference_vlm/checkpoint", "--recipe", recipe, "--no-time"
    ).stdout.splitlines()
    tables = lines[1:]  # the first line is the model's name
    assert max(map(len, tables)) <= columns
    assert any("4.12 -> 3.31 (0.80)" in line for line in tables)
