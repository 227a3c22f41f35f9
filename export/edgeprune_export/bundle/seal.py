"""Write a bundle so that a kill at any moment leaves the old one or none.

Everything goes to a hidden sibling folder; the manifest, with the hash of every other file, is written last; one rename publishes
it. Replacing an older bundle exchanges the two folders in one system call where the kernel offers it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from edgeprune.errors import ExportError
from edgeprune_runtime.bundle import DIGEST, MANIFEST, sha256_of
from edgeprune_runtime.claims import work_place
from edgeprune_runtime.errors import OutputError
from edgeprune_runtime.files import flush, full_disk_told
from edgeprune_runtime.frozen import Spec
from edgeprune_runtime.spec import FileSpec, Manifest

CLASSIFIER = "model.onnx"  # what an exported classifier's folder is known by, as a bundle is by its manifest
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def staging(out: Path, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """A folder to build `out` in, removed on any error. Leftovers of killed runs for the same place are removed too.

    With `force`, what is there is replaced, but only if it holds the file `marker`. Without, another run that builds the same
    `out` at this moment is an ExportError.
    """
    require_free(out, force=force, marker=marker)
    with working(out, str(os.getpid()), force=force) as folder:
        yield folder


@contextmanager
def working(out: Path, suffix: str, *, force: bool) -> Iterator[Path]:
    """A hidden folder beside `out`, removed at the end. Raises ExportError where another run works on `out`, unless `force`."""
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(work_place(out, suffix, folder=True, alone=not force))
            except OutputError as error:
                raise ExportError(str(error)) from error
            stack.enter_context(full_disk_told(out, folder))
            yield folder
    finally:
        if not out.exists():
            _remove_empty(made)


def require_free(out: Path, *, force: bool, marker: str = MANIFEST) -> None:
    """Raises ExportError where `out` may not be written: something else is there, or the folder above cannot be written to."""
    if (out.exists() or out.is_symlink()) and not force:
        raise ExportError(f"{out} exists; choose another folder or replace it with --force")
    if (out.exists() or out.is_symlink()) and not (out / marker).is_file():
        raise ExportError(f"{out} exists and holds no {marker}, so --force will not replace it; choose another folder")
    parent = _existing_parent(out)
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ExportError(f"{out.parent} cannot be written to; choose another folder")


def hashes(folder: Path, names: Iterable[str], advance: Callable[[], None]) -> dict[str, FileSpec]:
    """Size and SHA-256 of the named files of a folder; `advance` is called after each."""
    found = {}
    for name in sorted(names):
        path = folder / name
        found[name] = FileSpec(sha256_of(path), path.stat().st_size)
        advance()
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """A bundle's manifest, last of all files."""
    seal(folder, manifest, MANIFEST, DIGEST)


def seal(folder: Path, manifest: Spec, name: str, digest: str) -> None:
    """Write a manifest under `name`, after the file that holds its own digest (as `sha256sum --check` reads it)."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    (folder / digest).write_text(f"{hashlib.sha256(encoded).hexdigest()}  {name}\n", encoding="ascii")
    (folder / name).write_bytes(encoded)


def publish(folder: Path, out: Path) -> None:
    """Flush the staged folder to disk and put it in place of `out`; what was there stays in `folder`, for the caller to remove."""
    for path in [*folder.rglob("*"), folder]:
        flush(path)
    if not out.exists():
        folder.rename(out)
    elif not _exchange(folder, out):
        aside = out.parent / f".{out.name}.partial-old-{os.getpid()}"
        out.rename(aside)
        folder.rename(out)
        aside.rename(folder)
    flush(out.parent)


def _exchange(one: Path, other: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    code: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return code == 0


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the deepest first, as far as nobody has put anything into them."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
