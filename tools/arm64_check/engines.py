"""`edgeprune build` on arm64, with a board's packages and no torch.

A board's own TensorRT can be had only on the board. TensorRT for RTX has aarch64 wheels, the same Python interface, and builds without a GPU:
it stands in, in the form of graphs that the board's TensorRT would be given. Nobody would run these engines on a board.
"""

from __future__ import annotations

import json
import shutil

from tools.arm64_check.guest import Guest
from tools.arm64_check.wheels import DEBIAN, pip

VERSION = "1.7.1.116"
CAPABILITY = "sm89"
#: The form of graphs for each JetPack's TensorRT: 10.3; 10.15 and later.
DIALECTS = {"jetpack6": "portable", "jetpack7": "modern"}
_WHEELS = (f"tensorrt-rtx-cu13-libs=={VERSION}", f"tensorrt-rtx-cu13-bindings=={VERSION}")
#: What the metapackage, which is not a wheel, would add.
_MODULE = "from tensorrt_rtx_bindings import *\nfrom tensorrt_rtx_bindings import __version__\n"


def install(guest: Guest) -> bool:
    """Put TensorRT for RTX into /opt/rtx of the emulated system. False when it is there."""
    module = guest.root / "opt/rtx/tensorrt_rtx/__init__.py"
    if module.is_file():
        return False
    folder = guest.work / "wheels-rtx"
    shutil.rmtree(folder, ignore_errors=True)
    pip("download", "--quiet", "--no-deps", f"--dest={folder}", *DEBIAN.pip_options(), *_WHEELS)
    names = [f"/mnt/{folder.name}/{path.name}" for path in sorted(folder.glob("*.whl"))]
    options = ["--quiet", "--no-index", "--no-deps", "--target=/opt/rtx"]
    guest.run(["pip", "install", *options, *names], environment="jetpack6")
    module.parent.mkdir(exist_ok=True)
    module.write_text(_MODULE, encoding="utf-8")
    return True


def build(guest: Guest, bundle: str, board: str) -> tuple[str, ...]:
    """Build engines for a copy of a bundle of the work folder in a board's environment; returns their names."""
    copy = guest.work / f"{board}.bundle"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(guest.work / bundle, copy)
    options = ["--target", f"rtx:{CAPABILITY}", "--dialect", DIALECTS[board], "--json"]
    command = ["env", "PYTHONPATH=/opt/rtx", "edgeprune", "build", f"/mnt/{copy.name}", *options]
    (made,) = json.loads(guest.run(command, environment=board))["engines"]
    return tuple(engine["name"] for engine in made["engines"])
