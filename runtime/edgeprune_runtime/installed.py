"""What is installed here, and how to install what is not."""

from __future__ import annotations

import re
import shlex
from importlib import metadata


def version_of(*distributions: str) -> str | None:
    """Version of the first of these distributions that is installed; None: none is."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def how_to_install(*distributions: str) -> str:
    """The command that installs them in the versions that edgeprune needs: "`pip install 'torch>=2.6' onnx`".

    It names the packages themselves: an extra of edgeprune could be pasted only where edgeprune comes from a package index.
    """
    bounds = {_name(text): text.partition(";")[0].strip() for text in _requirements()}
    wanted = dict.fromkeys(bounds.get(_name(one), one) for one in distributions)
    return f"`{shlex.join(['pip', 'install', *wanted])}`"


def _requirements() -> list[str]:
    try:
        return metadata.requires("edgeprune") or []
    except metadata.PackageNotFoundError:  # a source folder on the path, not installed
        return []


def _name(requirement: str) -> str:
    """The distribution, spelled in one way: "onnx-ir" of "onnx_ir>=0.1"."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
