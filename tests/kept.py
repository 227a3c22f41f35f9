"""What is slow to make and only read: made once, kept on disk, shared by workers and by later runs of the tests.

folder = kept("bundles", recipe, make)   # make(out) writes the folder or file `out`; nobody may change what comes back

A kept thing is found by its recipe and by the bytes of every source file that could change it (SOURCES, and the versions of
LIBRARIES): after a change of the code everything is made anew, so that no test passes on what older code wrote. What is made while
sources change belongs to its process alone. Two processes that want the same thing wait for each other. What earlier states of the
sources left behind is removed when a run of the tests begins, unless another run still reads it: the disk holds one state at a time,
some 200 MB.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
#: Everything of which a kept thing may be made.
SOURCES = ("edgeprune", "export", "runtime", "profiles", "tools", "tests/checkpoints.py", "tests/exports.py")
LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pillow",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
#: Where things are kept; pytest's own cache once conftest.py has said so.
_place = Path(tempfile.gettempdir()) / f"edgeprune-tests-{os.getuid()}"
#: Open files whose shared locks say that this process reads a state, by state and place.
reading: dict[tuple[str, Path], int] = {}


def keep_under(folder: Path) -> None:
    """Keep things in this folder from now on."""
    global _place
    _place = folder


@functools.cache
def state() -> str:
    """Digest of sources and libraries as they were when it was first asked for, which is before tests are collected."""
    return digest()


def digest() -> str:
    """Digest of sources and libraries as they are now."""
    found = hashlib.sha256(sys.version.encode())
    for library in LIBRARIES:
        try:
            found.update(f"{library} {version(library)}\n".encode())
        except PackageNotFoundError:
            found.update(f"{library} is missing\n".encode())
    for path in sorted(_sources()):
        content = path.read_bytes()
        found.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()[:20]


def kept(kind: str, recipe: Any, make: Callable[[Path], object]) -> Path:
    """What `make` writes for a recipe (anything JSON can hold). `kind` and recipe together say all that `make` depends on."""
    return _kept(kind, json.dumps(recipe, sort_keys=True), make)


def clean() -> None:
    """Remove what other states of the sources left and no process reads."""
    with FileLock(_folder("") / "cleaning.lock"):
        for folder in _place.iterdir():
            if folder.is_dir() and folder.name != state():
                with (folder / "in-use").open("w") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    shutil.rmtree(folder, ignore_errors=True)


def changed() -> list[str]:
    """Kept things that are no longer as they were made, each removed and named: a test wrote where it may only read."""
    found = []
    for note in sorted(_folder(state()).glob("*.json")):
        made = json.loads(note.read_text(encoding="utf-8"))
        out = note.with_suffix("")
        if made["files"] != _files(out):
            found.append(f"{made['kind']} {made['recipe']}")
            _remove(out)
            note.unlink()
    return found


def _kept(kind: str, recipe: str, make: Callable[[Path], object]) -> Path:
    out = _used(state()) / f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    note = out.with_name(f"{out.name}.json")
    if not note.exists():
        with FileLock(out.with_name(f"{out.name}.lock")):
            if not note.exists():
                _remove(out)  # left half made by a process that was killed
                make(out)
                if digest() != state():
                    return Path(shutil.move(out, _own() / out.name))
                written = json.dumps({"kind": kind, "recipe": recipe, "files": _files(out)})
                half = note.with_suffix(".half")
                half.write_text(written, encoding="utf-8")
                half.rename(note)
    return out


def release(state: str, place: Path) -> None:
    """This process reads nothing of a state any more."""
    os.close(reading.pop((state, place)))


@functools.cache
def _own() -> Path:
    """A folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="edgeprune-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _used(state: str) -> Path:
    """The folder of a state, marked as in use until this process ends or `release`."""
    if (state, _place) not in reading:
        with FileLock(_folder("") / "cleaning.lock"):
            descriptor = os.open(_folder(state) / "in-use", os.O_CREAT | os.O_RDWR)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            reading[state, _place] = descriptor
    return _folder(state)


def _folder(name: str) -> Path:
    folder = _place / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sources() -> Iterator[Path]:
    for name in SOURCES:
        path = ROOT / name
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def _files(out: Path) -> list[list[Any]]:
    """Name, size and time of the last change of every file."""
    files = [out] if out.is_file() else [path for path in sorted(out.rglob("*")) if path.is_file()]
    facts = ((str(path.relative_to(out)), path.stat()) for path in files)
    return [[name, fact.st_size, fact.st_mtime_ns] for name, fact in facts]


def _remove(out: Path) -> None:
    if out.is_file():
        out.unlink()
    else:
        shutil.rmtree(out, ignore_errors=True)
