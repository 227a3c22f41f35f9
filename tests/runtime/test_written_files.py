"""Files written whole or not at all, and journals of work that goes on where it stopped."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from edgeprune_runtime.errors import MeasurementError, OutputError
from edgeprune_runtime.files import Journal, staged, write_json, write_whole
from edgeprune_runtime.installed import version_of


class Line(msgspec.Struct, frozen=True):
    number: int


def journal(path: Path, *, anew: bool = False, **about: object) -> Journal[Line]:
    return Journal(path, about, Line, anew=anew)


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert [(one.name, one.read_bytes()) for one in path.parent.iterdir()] == [("a", b"new")]


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="cannot write .*/a: disk full; choose another place"):
        write_whole(tmp_path / "a", b"new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a", "old")]


def test_the_content_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{descriptor}"), (tmp_path / "a").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_whole(tmp_path / "a", b"new")
    (part, before), (folder, after) = flushed
    assert (Path(part).parent, before) == (tmp_path, False) and (Path(folder), after) == (tmp_path, True)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_users_umask_decides_who_may_read(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_link_stays_a_link_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a")
    for content in (b"first", b"second"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "a").read_bytes() == content
    assert [one.name for one in (tmp_path / "there").iterdir()] == ["a"]


def test_a_device_and_a_pipe_are_written_to(tmp_path: Path) -> None:
    write_whole(Path("/dev/null"), b"lost")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(tmp_path / "pipe", b"read me")
        assert os.read(reader, 100) == b"read me"
    finally:
        os.close(reader)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "a", tmp_path):
        with pytest.raises(OutputError, match=f"cannot write {place}"):
            write_whole(place, b"")


def test_an_error_while_staging_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "a") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a", "old")]


def test_json_is_written_for_people_too(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", Line(3))
    assert (tmp_path / "a.json").read_text() == '{\n "number": 3\n}\n'


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lines.jsonl"
    with pytest.raises(KeyboardInterrupt), journal(path, seed=1) as first:
        first.add(Line(1))
        first.add(Line(2))
        raise KeyboardInterrupt
    path.write_bytes(path.read_bytes() + b'{"numb')
    with journal(path, seed=1) as second:
        assert second.lines == [Line(1), Line(2)]
        second.add(Line(3))
    assert path.read_text() == '{"about":{"seed":1}}\n{"number":1}\n{"number":2}\n{"number":3}\n'


def test_a_line_is_on_its_way_to_disk_when_it_was_added(tmp_path: Path) -> None:
    with journal(tmp_path / "lines.jsonl") as open_one:
        open_one.add(Line(1))
        assert (tmp_path / "lines.jsonl").read_bytes().endswith(b'{"number":1}\n')


def test_a_journal_of_other_work_is_refused_or_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with journal(path, seed=1, data="a") as first:
        first.add(Line(1))
    with pytest.raises(MeasurementError, match=r"lines.jsonl holds results of other work \(seed differ\)"):
        journal(path, seed=2, data="a").__enter__()
    with journal(path, anew=True, seed=2, data="a") as other:
        assert other.lines == []
    assert path.read_text() == '{"about":{"seed":2,"data":"a"}}\n'


@pytest.mark.parametrize(("content", "line"), [("garbage\n", 1), ('{"about":{}}\n{"number":1}\n{"number":"x"}\n', 3)])
def test_a_file_that_is_no_journal_is_refused_with_the_line(tmp_path: Path, content: str, line: int) -> None:
    (tmp_path / "lines.jsonl").write_text(content)
    with pytest.raises(MeasurementError, match=f"line {line}: not a line of this journal"):
        journal(tmp_path / "lines.jsonl").__enter__()
    assert (tmp_path / "lines.jsonl").read_text() == content


def test_a_journal_is_written_in_its_with_block_only(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        journal(tmp_path / "lines.jsonl").add(Line(1))


def test_the_version_of_the_first_distribution_that_is_installed_is_told() -> None:
    assert version_of("no-such-distribution", "numpy") == version_of("numpy")
    assert version_of("no-such-distribution") is None
