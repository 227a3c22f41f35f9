"""A full disk is told with the place, what was needed and what is left; nothing half-written stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune_runtime import files
from edgeprune_runtime.errors import EdgepruneError, OutputError
from edgeprune_runtime.files import Journal, full_disk_told, is_full, write_whole


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def library_error() -> Exception:
    """As safetensors says it."""
    return RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (library_error(), True),
        (OSError(errno.EACCES, "x"), False),
        (ValueError("x"), False),
    ],
)
def test_a_full_disk_is_recognised_also_behind_another_error(error: Exception, expected: bool) -> None:
    behind = ValueError("other")
    behind.__cause__ = error
    assert is_full(error) is expected and is_full(behind) is expected


def test_a_file_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.json").write_text("old")
    monkeypatch.setattr(files, "replace_file", full)
    with pytest.raises(OutputError, match=r"report.json: the disk is full; it needs 1000 bytes, \d+ are left in"):
        write_whole(tmp_path / "report.json", b"x" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), library_error()])
def test_a_folder_says_what_was_written_so_far(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x" * 500)
    with (
        pytest.raises(OutputError, match=r"out.bundle: the disk is full; it needs more than the 500 bytes"),
        full_disk_told(tmp_path / "out.bundle", tmp_path),
    ):
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), full_disk_told(tmp_path / "out.bundle", tmp_path):
        raise ZeroDivisionError


class Full:
    """A file on a full disk."""

    def write(self, _: bytes) -> None:
        full()

    flush = close = full


def test_a_journal_says_that_it_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path / "answers.jsonl", {"bundle": "x"}, int) as journal:
        journal.add(1)
        held = journal._file
        journal._file = Full()  # type: ignore[assignment]
        with pytest.raises(OutputError, match="answers.jsonl: No space left on device.*goes on from what is there"):
            journal.add(2)
        assert held is not None
        held.close()
    with Journal(tmp_path / "answers.jsonl", {"bundle": "x"}, int) as journal:
        assert journal.lines == [1]


def exporting(out: Path) -> object:
    from edgeprune_export.commands.export import export
    from tests.checkpoints import tiny_checkpoint
    from tests.exports import options

    return export(tiny_checkpoint(), out, options(parity=False))


def pruning(out: Path) -> object:
    from edgeprune_export.pruning.write import write_checkpoint  # noqa: F401  the seam
    from tests.commands import invoke

    found = invoke("prune", tiny(), "--structure", "params=0.9", "--importance", "magnitude", "--out", out)
    raise OutputError(found.output)


def tiny() -> Path:
    from tests.checkpoints import tiny_checkpoint

    return tiny_checkpoint()


WORK: dict[str, tuple[Callable[[Path], object], str]] = {
    "export, weights": (exporting, "edgeprune_export.onnx.weights.WeightsWriter.add"),
    "export, graphs": (exporting, "edgeprune_export.bundle.write.onnx.save"),
    "export, the last rename": (exporting, "edgeprune_export.bundle.seal.flush"),
    "prune": (pruning, "edgeprune_export.pruning.write.shutil.copyfile"),
}


@pytest.mark.parametrize("name", WORK)
def test_work_that_fills_the_disk_leaves_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, seam = WORK[name]
    tiny()
    failing: Any = full
    monkeypatch.setattr(seam, failing)
    with pytest.raises(EdgepruneError) as caught:
        work(tmp_path / "out")
    said = " ".join(str(caught.value).split())
    assert "the disk is full" in said and "needs more than" in said
    assert list(tmp_path.iterdir()) == []
