"""Wheels for aarch64, from the package registry: what the emulated system installs, and what the boards' requirement files come to."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.arm64_check.guest import Refused

ROOT = Path(__file__).resolve().parents[2]
JETSON = ROOT / "runtime" / "jetson"
#: Oldest to newest C library that a wheel may ask for.
_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35, 36, 38, 39)


@dataclass(frozen=True)
class Target:
    """An aarch64 system: its Python, and the minor version of its C library (2.x)."""

    name: str
    python: str
    glibc_minor: int

    def pip_options(self) -> list[str]:
        minors = [minor for minor in _GLIBC_MINORS if minor <= self.glibc_minor]
        platforms = [f"manylinux_2_{minor}_aarch64" for minor in reversed(minors)] + ["manylinux2014_aarch64"]
        abis = [f"cp{self.python.replace('.', '')}", "abi3", "none"]
        return [
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}"),
            *(f"--platform={name}" for name in platforms),
            *(f"--abi={name}" for name in abis),
        ]


DEBIAN = Target("Debian 12", "3.11", 36)
BASE = "base"
#: Systems of the boards, by the name of their requirement file.
BOARDS = {
    "jetpack6": Target("JetPack 6 (Ubuntu 22.04)", "3.10", 35),
    "jetpack7": Target("JetPack 7 (Ubuntu 24.04)", "3.12", 39),
}


def pip(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise Refused(f"pip {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def own_wheel(work: Path) -> Path:
    """edgeprune's wheel, made of this checkout."""
    folder = work / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    pip("wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(ROOT))
    (wheel,) = folder.glob("edgeprune-*.whl")
    return wheel


def rules(environment: str) -> tuple[str, Path]:
    """pip's option and the file that say which versions: the base install as the host is tested, a board as its requirement file says."""
    if environment == BASE:
        return "--constraint", ROOT / "constraints.txt"
    return "--requirement", JETSON / f"{environment}.txt"


def extra(environment: str) -> str:
    return "" if environment == BASE else "[jetson]"


def for_debian(work: Path, wheel: Path, environment: str) -> tuple[str, str]:
    """Fill work/wheels-ENVIRONMENT with what the emulated system is to install; returns a digest of all but edgeprune, and one of edgeprune."""
    folder = work / f"wheels-{environment}"
    shutil.rmtree(folder, ignore_errors=True)
    option, file = rules(environment)
    options = [f"--dest={folder}", *DEBIAN.pip_options(), f"{option}={file}"]
    pip("download", "--quiet", *options, f"{wheel}{extra(environment)}")
    names = "".join(f"{path.name}\n" for path in sorted(folder.glob("*.whl")))
    shutil.copyfile(file, folder / "rules.txt")
    return hashlib.sha256(names.encode()).hexdigest(), hashlib.sha256(wheel.read_bytes()).hexdigest()


def for_board(work: Path, wheel: Path, board: str) -> dict[str, str]:
    """Version per package that a board would install.

    Nothing is installed: pip resolves against the board's Python, platform and C library. Markers in requirements are the host's, however.
    """
    report = work / f"{board}.json"
    option, file = rules(board)
    options = ["--dry-run", "--ignore-installed", f"--target={work / 'nowhere'}", f"--report={report}"]
    pip("install", "--quiet", *options, *BOARDS[board].pip_options(), f"{option}={file}", f"{wheel}{extra(board)}")
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {entry["metadata"]["name"].lower(): entry["metadata"]["version"] for entry in found}
