"""Tables fit 80 columns without a broken number or name, whatever they hold."""

from __future__ import annotations

import io

import pytest
import typer

from edgeprune.cli import console
from edgeprune.cli.console import say, wrapped
from edgeprune.cli.plain import PlainConsole
from edgeprune.cli.tables import blocks, show_table
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
    show_table("Times", HEAD, [ROW, ROW], ("budget", "full / this"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for cell in ROW:
        if cell != ROW[4] or width > 60:  # a sentence in a cell may wrap, at words
            assert cell in text
    assert "distinguishable" in text


def test_a_narrow_table_becomes_blocks_that_begin_with_the_first_column() -> None:
    found = blocks(HEAD, [ROW], 80)
    assert len(found) > 1 and all(block[0] == 0 for block in found)
    assert sorted(i for block in found for i in block[1:]) == list(range(1, len(HEAD)))
    assert blocks(HEAD, [ROW], 200) == [list(range(len(HEAD)))]


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
