"""Hidden work places beside an output, `.NAME.partial-SUFFIX`: who works there is known by a lock that dies with its process.

Every work place is held under an exclusive `flock` while it is in use, so the next run can tell the remains of a kill, which
it removes, from the work of a living run, which it leaves alone and can refuse to compete with before minutes of work.
Where there are no such locks (Windows, some network folders) a process number in the name decides, with the time at which the process that
has it now was started: numbers are given again.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil

from edgeprune_runtime.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD: set[Path] = set()  # work places of this process: a second look at them is not a rival's
_RANDOM = re.compile(r"[0-9a-f]{8}$")  # of a file that is written in one go; a process number is shorter
_OWN = re.compile(r"\.partial-\d+$")  # the place of a run that is at work, not what publishing put aside
_PATIENCE_S = 2.0
_CLOCK_S = 2.0  # by which the clocks of processes and of file systems may differ


@contextmanager
def work_place(target: Path, suffix: str | int, *, folder: bool, alone: bool) -> Iterator[Path]:
    """A new empty file or folder beside `target`, removed at the end. Remains of killed runs for `target` are removed first.

    alone: raise OutputError where another living run has a work place for `target`. Raises OSError where none can be made.
    """
    part = target.with_name(f".{target.name}.partial-{suffix}")
    with _briefly_locked(target.parent):
        rivals = _clear(target)
        try:
            if alone and rivals:
                raise FileExistsError(rivals[0])
            if folder:
                part.mkdir()
            else:
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError as error:
            raise OutputError(
                f"another run is writing {target} at this moment (it works in {(rivals or [part])[0].name}); "
                "wait for it, or choose another name"
            ) from error
        descriptor, _ = _lock(part)
    _HELD.add(part.absolute())
    try:
        yield part
    finally:
        _HELD.discard(part.absolute())
        _remove(part)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def claimed(target: Path | None) -> Iterator[None]:
    """Say for the length of a run that its result goes to `target`; a device or a pipe can be shared, and None is no place.

    Raises OutputError at once where another run has said so, or where the place cannot be written to.
    """
    if target is None or (target.exists() and not target.is_file()):
        yield
        return
    real = Path(os.path.realpath(target))
    made = [parent for parent in real.parents if not parent.exists()]
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        place = work_place(real, os.getpid(), folder=False, alone=True)
        place.__enter__()
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error}; choose another place") from error
    try:
        yield
    finally:
        place.__exit__(None, None, None)
        with suppress(OSError):  # folders that hold something by now stay
            for parent in made:
                parent.rmdir()


def require_new(*targets: Path | None, force: bool) -> None:
    """Raise OutputError for a file that is there already, unless `force`; to a device or a pipe can be written, and None is no place."""
    for target in targets:
        if target is not None and not force and target.is_file():
            raise OutputError(f"{target} exists; choose another name or replace it with --force")


def _clear(target: Path) -> list[Path]:
    """Remove what killed runs left for `target`; returns the work places of living ones."""
    rivals = []
    for found in sorted(target.parent.glob(f".{glob.escape(target.name)}.partial-*")):
        if found.absolute() in _HELD:
            continue
        descriptor, state = _lock(found)
        if state == "taken":
            rivals.append(found)
        elif _dead(found, state):
            _remove(found)
        if descriptor is not None:
            os.close(descriptor)
    return rivals


def _dead(found: Path, state: Literal["locked", "taken", "unknown"]) -> bool:
    """Whether nobody can be at work there. In a container every run may have our own process number: that is a killed one's."""
    suffix = found.name.rpartition("-")[2]
    if not suffix.isdecimal() or (_RANDOM.match(suffix) and found.is_file()):
        return state == "locked"
    if suffix == str(os.getpid()):
        return True
    if state == "locked" and _OWN.search(found.name):  # whoever is at work there holds the lock
        return True
    return not _alive(int(suffix), found)


def _alive(pid: int, place: Path) -> bool:
    """Whether the process that made `place` lives: one with its number that was started after the last change there is another."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:
        return psutil.Process(pid).create_time() < place.lstat().st_mtime + _CLOCK_S
    except (psutil.Error, OSError):  # no /proc, or gone meanwhile
        return True


def _lock(path: Path) -> tuple[int | None, Literal["locked", "taken", "unknown"]]:
    """An open descriptor that holds the lock, and what became of it; "unknown" where locks do not work."""
    if fcntl is None:
        return None, "unknown"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, "unknown"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return None, "taken" if isinstance(error, BlockingIOError) else "unknown"
    return descriptor, "locked"


@contextmanager
def _briefly_locked(folder: Path) -> Iterator[None]:
    """Keep others from looking between the making of a work place and its lock; goes on without where that is not possible."""
    until = time.monotonic() + _PATIENCE_S
    descriptor, state = _lock(folder)
    while state == "taken" and time.monotonic() < until:
        time.sleep(0.01)
        descriptor, state = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():  # a link to what was replaced: that is not ours to remove
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
