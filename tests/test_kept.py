"""What tests keep is made once, however many ask; a change of its recipe makes it anew, and a change to itself is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kept

SCRIPT = """
import sys, time
from pathlib import Path
from tests import kept

def make(out):
    out.mkdir()
    (out / "half").touch()
    time.sleep(0.5)
    with open(sys.argv[2], "a") as made:
        made.write("made\\n")
    (out / "whole").touch()

kept.keep_under(Path(sys.argv[1]))
print(sorted(path.name for path in kept.kept("thing", "slow", make).iterdir()))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own to keep things in."""
    before = set(kept.reading)
    monkeypatch.setattr(kept, "_place", tmp_path / "place")
    yield tmp_path / "place"
    for state, folder in set(kept.reading) - before:
        kept.release(state, folder)


def written(text: str, log: list[str]) -> object:
    def make(out: Path) -> None:
        log.append(text)
        out.mkdir()
        (out / "file").write_text(text, encoding="utf-8")

    return make


def text_of(folder: Path) -> str:
    return (folder / "file").read_text(encoding="utf-8")


@pytest.mark.usefixtures("place")
def test_a_recipe_is_made_once_and_each_recipe_has_its_own() -> None:
    log: list[str] = []
    one, again, other, kind = (
        kept.kept(kind, recipe, written(f"{kind} {recipe}", log))  # type: ignore[arg-type]
        for kind, recipe in (("a", {"x": 1}), ("a", {"x": 1}), ("a", {"x": 2}), ("b", {"x": 1}))
    )
    assert one == again and len({one, other, kind}) == len(log) == 3
    assert text_of(other) == "a {'x': 2}"


@pytest.mark.usefixtures("place")
def test_what_could_not_be_made_leaves_nothing_that_a_later_try_would_take() -> None:
    def fails(out: Path) -> None:
        out.mkdir()
        (out / "stale").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        kept.kept("a", 1, fails)
    assert [path.name for path in kept.kept("a", 1, written("whole", [])).iterdir()] == ["file"]  # type: ignore[arg-type]


def test_two_processes_that_ask_at_once_get_one_thing_made_once_and_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "place"), str(tmp_path / "log")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in asking] == ["['half', 'whole']\n"] * 2
    assert (tmp_path / "log").read_text() == "made\n"


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("damage", ["change", "add", "remove"])
def test_a_thing_that_was_written_to_is_named_and_made_anew(damage: str) -> None:
    log: list[str] = []
    folder = kept.kept("a", {"x": 1}, written("first", log))  # type: ignore[arg-type]
    assert kept.changed() == []
    if damage == "remove":
        (folder / "file").unlink()
    else:
        (folder / ("file" if damage == "change" else "more")).write_text("written by a test", encoding="utf-8")
    assert kept.changed() == ['a {"x": 1}']
    assert text_of(kept.kept("a", {"x": 1}, written("second", log))) == "second"  # type: ignore[arg-type]
    assert kept.changed() == []


def test_things_of_other_sources_are_made_anew_and_the_old_ones_go_when_nobody_reads_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    folders = {}
    for state in ("unused", "other", "current"):
        for name in ("state", "digest"):
            monkeypatch.setattr(kept, name, lambda state=state: state)
        folders[state] = kept.kept("a", 1, written(state, log))  # type: ignore[arg-type]
    assert log == ["unused", "other", "current"]
    script = (
        "import sys, fcntl; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); sys.stdin.read()"
    )
    kept.release("unused", place)
    kept.release("other", place)
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(place / "other" / "in-use")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    kept.clean()
    assert {state for state, folder in folders.items() if folder.is_dir()} == {"other", "current"}
    reader.communicate()
    kept.clean()
    assert {state for state, folder in folders.items() if folder.is_dir()} == {"current"}


def test_what_is_made_while_sources_change_is_not_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(kept, "digest", lambda: "later")
    folder = kept.kept("a", 1, written("first", log))  # type: ignore[arg-type]
    assert text_of(folder) == "first" and place not in folder.parents
    monkeypatch.setattr(kept, "digest", kept.state)
    assert text_of(kept.kept("a", 1, written("second", log))) == "second"  # type: ignore[arg-type]
    shutil.rmtree(folder)


def test_the_digest_is_of_every_source_that_could_change_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    monkeypatch.setattr(kept, "SOURCES", ("package", "one.py"))
    (tmp_path / "package" / "deep").mkdir(parents=True)
    for name in ("package/a.py", "package/deep/b.toml", "one.py", "other.py"):
        (tmp_path / name).write_text("1", encoding="utf-8")
    digests = [kept.digest()]
    for name in ("package/a.py", "package/deep/b.toml", "one.py", "other.py"):
        (tmp_path / name).write_text("2", encoding="utf-8")
        digests.append(kept.digest())
    assert len(set(digests)) == 4 and digests[3] == digests[4]
