"""What a kill leaves is removed by the next run that can know it is dead; a living run is left alone and not competed with."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from edgeprune_runtime.claims import claimed, work_place
from edgeprune_runtime.errors import OutputError
from edgeprune_runtime.files import staged, write_whole

WORK = "import sys; from pathlib import Path; from edgeprune_runtime.claims import claimed, work_place\n"
AT_WORK = f"{WORK}with %s as part: print(part, flush=True); sys.stdin.read()"
FOLDER = "work_place(Path(sys.argv[1]), 'other', folder=True, alone=False)"


@contextmanager
def another_run(target: Path, how: str = FOLDER) -> Iterator[subprocess.Popen[str]]:
    """A process that works for `target` until its input ends or it is killed."""
    words = [sys.executable, "-c", AT_WORK % how, str(target)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_what_a_killed_write_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    target, other = tmp_path / "report.json", tmp_path / ".else.json.partial-0123abcd"
    for name in (".report.json.partial-0123abcd", other.name):
        (tmp_path / name).write_bytes(b"half")
    write_whole(target, b"new")
    assert beside(target) == [other.name], "what belongs to another file stays"


def test_what_a_killed_run_was_working_on_is_removed_by_the_next_one(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with another_run(target, "work_place(Path(sys.argv[1]), '0123abcd', folder=False, alone=False)") as process:
        process.kill()
        process.wait()
    assert beside(target) == [".report.json.partial-0123abcd"]
    write_whole(target, b"new")
    assert beside(target) == []


def test_a_write_that_goes_on_at_this_moment_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with staged(target) as mine, another_run(target):
        write_whole(target, b"between")
        assert mine.exists()
        assert len(beside(target)) == 2


def test_a_second_run_for_one_output_is_refused_before_it_works(tmp_path: Path) -> None:
    target = tmp_path / "out.bundle"
    with another_run(target), pytest.raises(OutputError, match="another run is writing .*out.bundle.*wait for it"):
        work_place(target, os.getpid(), folder=True, alone=True).__enter__()
    with work_place(target, os.getpid(), folder=True, alone=True) as part:
        assert part.is_dir()
    assert beside(target) == []


def test_a_second_run_that_may_replace_works_beside_the_first(tmp_path: Path) -> None:
    target = tmp_path / "out.bundle"
    with another_run(target), work_place(target, os.getpid(), folder=True, alone=False):
        assert len(beside(target)) == 2


def test_a_report_is_claimed_for_the_length_of_a_run(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.json"
    with another_run(target, "claimed(Path(sys.argv[1]))") as process:
        with pytest.raises(OutputError, match="another run is writing"), claimed(target):
            pass
        process.kill()
        process.wait()
        with claimed(target):
            write_whole(target, b"mine")
    assert beside(target) == []


def test_a_claim_leaves_nothing_and_devices_and_no_place_are_free(tmp_path: Path) -> None:
    with claimed(tmp_path / "new" / "report.json"), claimed(Path("/dev/null")), claimed(None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(OutputError, match="cannot write .*choose another place"),
        claimed(tmp_path / "file" / "report.json"),
    ):
        pass


def test_without_locks_a_process_number_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    target = tmp_path / "out"
    for suffix in (999999999, os.getppid(), "0123abcd"):
        (tmp_path / f".out.partial-{suffix}").write_bytes(b"")
    with work_place(target, os.getpid(), folder=True, alone=True):
        pass
    assert beside(target) == [".out.partial-0123abcd", f".out.partial-{os.getppid()}"]


@pytest.mark.parametrize("locks", [True, False])
def test_a_process_number_that_was_given_again_is_no_living_run(
    tmp_path: Path, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(95, "not supported")

    if not locks:
        monkeypatch.setattr(fcntl, "flock", refuse)
    target, old = tmp_path / "out", psutil.Process(os.getppid()).create_time() - 3600
    for suffix in (str(os.getppid()), f"old-{os.getppid()}"):
        place = tmp_path / f".out.partial-{suffix}"
        place.mkdir()
        os.utime(place, (old, old))
    with work_place(target, os.getpid(), folder=True, alone=True):
        pass
    assert beside(target) == []


def test_what_a_living_run_put_aside_while_it_publishes_is_kept(tmp_path: Path) -> None:
    (tmp_path / f".out.partial-old-{os.getppid()}").mkdir()
    with work_place(tmp_path / "out", os.getpid(), folder=True, alone=True):
        pass
    assert beside(tmp_path / "out") == [f".out.partial-old-{os.getppid()}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_asked_to_end_tidies_up_like_ctrl_c(tmp_path: Path, number: signal.Signals) -> None:
    """The real entry point, with a command that is at work in a work place."""
    lines = (
        "import signal, sys, time; from pathlib import Path; import edgeprune.cli as cli",
        f"signal.signal({int(number)}, signal.SIG_DFL)",  # the tests may themselves run under nohup
        "from edgeprune_runtime.claims import work_place",
        "def work():",
        "    with work_place(Path(sys.argv[1]), 'here', folder=True, alone=True):",
        "        print('at work', flush=True); time.sleep(60)",
        "cli.app = work; cli.main()",
    )
    words = [sys.executable, "-c", "\n".join(lines), str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "interrupted\n")
    assert list(tmp_path.iterdir()) == []
