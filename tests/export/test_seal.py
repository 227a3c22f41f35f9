"""A kill at any moment leaves the old bundle or nothing, and the next export cleans up."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeprune_export.bundle import seal
from edgeprune_export.bundle.seal import publish, staging, write_manifest
from edgeprune_export.commands.export import export
from edgeprune_runtime import Bundle
from edgeprune_runtime.errors import ExportError
from edgeprune_runtime.spec import Manifest
from tests.checkpoints import tiny_checkpoint
from tests.exports import options
from tests.runtime.test_claims import another_run

#: Events of the interpreter that change or announce a change of the file system.
WRITES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree", "ctypes.dlsym")


def small(tiny_bundle: Path, folder: Path, name: str) -> Manifest:
    """Fill a folder as an export does, with what a bundle cannot do without, under another name."""
    manifest = Bundle.open(tiny_bundle, verify=False).manifest
    chosen = manifest.selections[0]
    left = {graph.name for graph in manifest.graphs if graph.name.startswith("select-")} - {chosen.graph}
    files = {file: entry for file, entry in manifest.files.items() if file.removesuffix(".onnx") not in left}
    for file in files:
        shutil.copyfile(tiny_bundle / file, folder / file)
    graphs = tuple(graph for graph in manifest.graphs if graph.name not in left)
    return Manifest(
        **{field: getattr(manifest, field) for field in Manifest.__struct_fields__}
        | {"name": name, "graphs": graphs, "selections": (chosen,), "files": files}
    )


def make(tiny_bundle: Path, out: Path, name: str, *, force: bool = False) -> None:
    """What `export` does with the file system."""
    with staging(out, force=force) as folder:
        write_manifest(folder, small(tiny_bundle, folder, name))
        publish(folder, out)


def killed_at(event: int, work: Callable[[], None]) -> bool:
    """Run `work` in a forked child that kills itself at its n-th file-system event; False when it got to the end."""
    child = os.fork()
    if child == 0:
        try:
            seen = 0

            def hook(name: str, _: object) -> None:
                nonlocal seen
                if name in WRITES:
                    seen += 1
                    if seen == event:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path != out)


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("replace", [False, True], ids=["new", "replace"])
def test_a_kill_at_any_file_system_event_leaves_the_old_bundle_or_nothing(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool, exchange: bool
) -> None:
    out = tmp_path / "here" / "out"
    if not exchange:
        monkeypatch.setattr(seal, "_exchange", lambda one, other: False)
    states: set[str] = set()
    event, alive = 0, True
    while alive:
        event += 1
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        if replace:
            make(tiny_bundle, out, "old")
        alive = killed_at(event, lambda: make(tiny_bundle, out, "new", force=replace))
        states.add(Bundle.open(out).manifest.name if out.exists() else "nothing")
        if alive and not exchange and not out.exists():
            continue
        make(tiny_bundle, out, "next", force=out.exists())
        assert Bundle.open(out).manifest.name == "next"
        assert leftovers(out) == [], f"after a kill at event {event}"
    assert event > 20, "the kill came at many different moments"
    allowed = {"new", "old"} if replace else {"new", "nothing"}
    assert states == allowed if exchange else states <= allowed | {"nothing"}


def _export_into(checkpoint: str, out: str, force: bool) -> None:
    export(checkpoint, Path(out), options(("40",), parity=False, plan={"method": "random"}, force=force))


def test_a_real_export_killed_at_random_moments_leaves_the_old_bundle(tmp_path: Path) -> None:
    checkpoint, out = str(tiny_checkpoint()), tmp_path / "out"
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "torch.onnx", "onnxscript"])
    started = time.monotonic()
    first = server.Process(target=_export_into, args=(checkpoint, str(out), False))
    first.start()
    first.join()
    assert first.exitcode == 0
    took, before = time.monotonic() - started, Bundle.open(out).sha256
    for part in (0.05, 0.35, 0.7):
        process = server.Process(target=_export_into, args=(checkpoint, str(out), True))
        process.start()
        process.join(part * took)
        process.kill()
        process.join()
        opened = Bundle.open(out)
        assert process.exitcode == 0 or opened.sha256 == before or opened.manifest.files
    with staging(out, force=True):
        assert len(leftovers(out)) == 1, "what the kills left is gone"
    assert leftovers(out) == []
    assert Bundle.open(out).manifest.plan.method == "random"


def test_the_remains_of_a_process_with_the_same_number_are_cleared(tiny_bundle: Path, tmp_path: Path) -> None:
    """In a container every export may be process 1."""
    out = tmp_path / "out"
    remains = tmp_path / f".out.partial-{os.getpid()}"
    remains.mkdir()
    (remains / "weights.bin").write_bytes(b"half")
    make(tiny_bundle, out, "new")
    assert Bundle.open(out).manifest.name == "new" and leftovers(out) == []


@pytest.mark.parametrize("name", ["out[1]", "out*", "a b", "\N{SNOWMAN}", "-out", ".hidden"])
def test_remains_are_cleared_whatever_the_name(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    remains = tmp_path / f".{name}.partial-999999999"
    remains.mkdir()
    make(tiny_bundle, tmp_path / name, "new")
    assert leftovers(tmp_path / name) == []


def test_the_work_of_another_living_export_is_left_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    """It holds its lock, and is told from what a process of the same number left."""
    with another_run(tmp_path / "out"):
        make(tiny_bundle, tmp_path / "out", "new", force=True)
        assert (tmp_path / ".out.partial-other").is_dir()


def test_an_error_while_staging_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), staging(tmp_path / "out", force=False) as folder:
        (folder / "weights.bin").write_bytes(b"half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_replaced_only_with_force(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(tiny_bundle, out, "old")
    with pytest.raises(ExportError, match="exists; .*--force"):
        export(tiny_checkpoint(), out, options(parity=False))
    assert Bundle.open(out).manifest.name == "old" and leftovers(out) == []
    make(tiny_bundle, out, "new", force=True)
    assert Bundle.open(out).manifest.name == "new" and leftovers(out) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link to nothing"])
def test_force_never_replaces_what_is_no_bundle(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "holiday.jpg").write_bytes(b"1")
    elif kind == "file":
        out.write_bytes(b"1")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ExportError):
        export(tiny_checkpoint(), out, options(("40",), parity=False, force=True, plan={"method": "random"}))
    assert leftovers(out) == [] and (out.exists() or out.is_symlink())


def test_a_link_to_a_bundle_is_replaced_without_remains(tiny_bundle: Path, tmp_path: Path) -> None:
    make(tiny_bundle, tmp_path / "real", "old")
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "real")
    make(tiny_bundle, out, "new", force=True)
    assert Bundle.open(out).manifest.name == "new"
    assert leftovers(out) == ["real"]


def test_a_missing_parent_folder_is_made(tiny_bundle: Path, tmp_path: Path) -> None:
    make(tiny_bundle, tmp_path / "a" / "b" / "out", "new")
    assert Bundle.open(tmp_path / "a" / "b" / "out").manifest.name == "new"


def test_a_parent_that_is_a_file_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(ExportError):
        make(tiny_bundle, tmp_path / "file" / "out", "new")


def test_a_failed_export_leaves_no_parent_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staging(tmp_path / "new" / "deep" / "bundle", force=False):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
