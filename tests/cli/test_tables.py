"""Tables fit 80 columns without a broken number or name, whatever they hold; columns leave by rank."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer

from edgeprune.cli import console
from edgeprune.cli.console import say, wrapped
from edgeprune.cli.plain import PlainConsole
from edgeprune.cli.tables import Column, blocks, columns, show_table
from edgeprune_runtime.errors import EdgepruneError
from tests.commands import invoke

HEAD = ["budget", "K", "TTFT p50", "p95", "full / this", "peak memory", "anonymous", "cache used", "energy per answer"]
ROW = ["divprune@0.25 on one view", "2880", "13.3\xa0ms", "13.6\xa0ms", "not distinguishable [0.98, 1.02]"]
ROW += ["138\xa0MiB", "49.3\xa0MiB", "1.00\xa0MiB", "58.29\xa0±\xa00.06\xa0J"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_every_cell_stands_whole_on_one_line(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_table("Times", columns(HEAD, ("budget", "full / this")), [ROW, ROW])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for cell in ROW:
        if cell != ROW[4] or width > 60:  # a sentence in a cell may wrap, at words
            assert cell in text
    assert "distinguishable" in text


def test_a_narrow_table_becomes_blocks_that_begin_with_the_first_column() -> None:
    found = blocks(columns(HEAD), [ROW], 80)
    assert len(found) > 1 and all(block[0] == 0 for block in found)
    assert sorted(i for block in found for i in block[1:]) == list(range(1, len(HEAD)))
    assert blocks(columns(HEAD), [ROW], 200) == [list(range(len(HEAD)))]


RANKED = [Column("name", left=True), Column("rate", rank=1), Column("long number", rank=2)]


@pytest.mark.parametrize(
    ("width", "head"),
    [(60, ["name", "rate", "long number"]), (30, ["name", "rate"]), (20, ["name"])],
)
def test_columns_leave_by_rank(
    width: int, head: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["orin-nano-8gb-super", "12.5", "12345678901"], ["t4", "3", "1"]]
    monkeypatch.setenv("COLUMNS", str(width))
    show_table("Title", RANKED, rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Title" and lines[1].split() == " ".join(head).split()
    assert lines[2].split() == rows[0][: len(head)] and max(map(len, lines)) <= width


def test_a_column_of_sentences_wraps_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_table(
        "T",
        [Column("name", left=True), Column("why", wraps=True)],
        [["a", "too slow on orin-nano-8gb and too dear by far"]],
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:4] == ["a     too slow on orin-nano-8gb and too", "      dear by far"]


def test_a_sentence_is_broken_in_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = "a sentence about orin-nano-8gb-super-kit " * 5
    say(text, indent="  ")
    assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setenv("COLUMNS", "50")
    say(text, indent="  ")
    first, *later = capsys.readouterr().out.rstrip().splitlines()
    assert len(later) > 2 and not first.startswith(" ") and all(line.startswith("  ") for line in later)
    assert all(
        line.rstrip().endswith(("about", "a", "sentence", "orin-nano-8gb-super-kit")) for line in (first, *later)
    )


@pytest.mark.parametrize("width", [60, 80])
def test_a_forecast_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("COLUMNS", str(width))
    recipe = root / "docs/examples/small.toml"
    lines = invoke(
        "forecast", root / "tools/reference_vlm/checkpoint", "--recipe", recipe, "--no-time"
    ).stdout.splitlines()
    tables = lines[1:]  # the first line is the model's name
    assert max(map(len, tables)) <= width
    assert any("4.12 -> 3.31 (0.80)" in line for line in tables)


def test_sentences_wrap_at_words_and_commands_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    say("preprocessing and the vision tower are most of what is left")
    say("edgeprune report --eval accuracy.json --ttft 500ms report.json")
    *wrapped, command = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in wrapped] == ["preprocessing and the vision", "tower are most of what is left"]
    assert command == "edgeprune report --eval accuracy.json --ttft 500ms report.json"


def test_a_command_in_backticks_is_never_broken_and_the_words_around_it_are_wrapped() -> None:
    text = "thing.bundle is a checkpoint, not a bundle; make one with `edgeprune export thing --budget 0.2 --out b`"
    assert wrapped(text, 60).splitlines() == [
        "thing.bundle is a checkpoint, not a bundle; make one with",
        "`edgeprune export thing --budget 0.2 --out b`",
    ]


def test_a_version_is_no_command_and_is_wrapped() -> None:
    assert wrapped("versions: edgeprune 0.1.0, torch 2.13.0", 30).splitlines() == [
        "versions: edgeprune 0.1.0,",
        "torch 2.13.0",
    ]


def test_an_error_is_wrapped_at_words_in_a_terminal_and_one_line_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "a sentence of an error that is longer than forty characters"
    for terminal, expected in ((True, 2), (False, 1)):
        seen = PlainConsole(file=io.StringIO(), force_terminal=terminal, color_system=None, width=40, soft_wrap=True)
        monkeypatch.setattr(console, "err", seen)
        with pytest.raises(typer.Exit), console.errors_as_one_line():
            raise EdgepruneError(said)
        lines = seen.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == expected and " ".join(lines) == f"error: {said}"


def test_a_number_stays_with_its_unit_and_an_interval_is_whole() -> None:
    text = "the first token comes 1.1x [0.90, 2.32] later: 334\xa0\N{MICRO SIGN}s instead of 308\xa0\N{MICRO SIGN}s"
    for width in range(20, 80):
        lines = wrapped(text, width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any(line.endswith(("334", "308", "[0.90,")) for line in lines)
    assert wrapped(text, None) == text


def test_the_steps_of_a_selftest_are_wrapped_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = PlainConsole(file=io.StringIO(), force_terminal=True, color_system=None, width=60, soft_wrap=True)
    monkeypatch.setattr("edgeprune.cli.prepare.selftest.out", seen)
    assert invoke("selftest", "--backend", "onnxruntime").exit_code == 0
    lines = seen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("passed  device: ")
    assert [line for line in lines if len(line) > 60] == []
