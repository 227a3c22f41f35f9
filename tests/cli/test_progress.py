"""Progress names every phase of a command on one line of a terminal, and is silent anywhere else."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.cli import console
from edgeprune.cli.plain import PlainConsole
from edgeprune.cli.progress import Activity, moving
from tests.checkpoints import tiny_checkpoint
from tests.commands import invoke

QUICK = ["--max-tokens", 1, "--threads", 1]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a person at a terminal of 80 columns gets to see of stderr."""
    seen = io.StringIO()
    monkeypatch.setattr(console, "err", PlainConsole(file=seen, force_terminal=True, width=80, soft_wrap=True))
    yield seen


def phases(seen: io.StringIO) -> list[str]:
    """Titles in their order, without the animation around them."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.getvalue())
    lines = re.findall(r"[\u2800-\u28ff] (.*?) +[\u2501\u2578\u257a]", plain)
    return list(dict.fromkeys(lines))


def drawn(activity: Activity) -> None:
    activity.bar.refresh()


def test_one_line_goes_from_phase_to_phase_and_never_stands_without_a_name(terminal: io.StringIO) -> None:
    with console.activity("loading") as activity:
        drawn(activity)
        with console.track("weights", 3) as advance:
            advance()
            drawn(activity)
        drawn(activity)
        with console.track("reading", 0):
            drawn(activity)
        assert activity.bar.live.auto_refresh and activity.bar.live.is_started, "drawn by a thread, so that it moves"
        assert len(activity.bar.tasks) == 1
    assert phases(terminal) == ["loading", "weights", "working", "reading"]
    text = terminal.getvalue()
    assert "1/3" in text
    assert not re.search(r"reading[^\r\n]*/3", text), "a phase without steps does not inherit those of the last"


def test_the_first_result_on_stdout_ends_the_line(terminal: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with console.activity("loading") as activity:
        console.say("found")
        assert not activity.bar.live.is_started
        with console.track("afterwards", 1) as advance:
            advance()
    assert capsys.readouterr().out == "found\n"


def test_nothing_is_shown_where_nobody_watches() -> None:
    seen = io.StringIO()
    with moving(PlainConsole(file=seen), "loading") as activity, activity.track("weights", 3) as advance:
        advance()
    assert seen.getvalue() == ""


def test_an_export_names_its_phases(tmp_path: Path, terminal: io.StringIO) -> None:
    done = invoke("export", tiny_checkpoint(), "--budget", "0.2", "--no-controls", "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output
    wanted = [
        "reading the checkpoint",
        "loading torch and transformers",
        "loading the exporter",
        "weights",
        "tracing the tower",
        "graphs",
        "checksums",
        "parity gate",
    ]
    seen = phases(terminal)
    assert [name for name in seen if name in wanted] == wanted


@pytest.mark.parametrize("name", ["export", "prune", "calibrate"])
def test_a_refusal_that_loads_nothing_does_not_speak_of_loading(
    name: str, tmp_path: Path, terminal: io.StringIO
) -> None:
    rest = {"export": ["--budget", "0.2"], "prune": ["-s", "params=0.9"]}
    words = rest.get(name, ["--method", "flowcut", "--images", tmp_path])
    assert invoke(name, tmp_path / "nowhere", *words).exit_code == 1
    assert "loading" not in terminal.getvalue()


def test_a_profile_names_its_rounds(tiny_bundle: Path, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune_profiles.measure.session.measure_apart", lambda request: None)
    done = invoke("profile", tiny_bundle, "--budget", "0.2", "--runs", 2, "--warmup", 1, *QUICK)
    assert done.exit_code == 0, done.output
    assert any(name.startswith("opening the bundle") for name in phases(terminal))


def test_a_piped_command_has_no_progress_on_stderr(tiny_bundle: Path, questions: Path) -> None:
    done = invoke("eval", tiny_bundle, "--data", questions, "--budget", "0.2", *QUICK)
    assert done.exit_code == 0, done.output
    assert "answers" not in done.stderr and "\x1b" not in done.stderr
