"""What is installed here, and next steps as a message prints them: commands that do what they say when they are pasted into a shell."""

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
    texts = (text.partition(";")[0].strip() for text in _requirements())
    bounds = {_name(text): text for text in sorted(texts, key=_numbers)}  # of several extras, the one that asks most
    wanted = dict.fromkeys(bounds.get(_name(one), one) for one in distributions)
    return f"`{command('pip', 'install', *wanted)}`"


def _requirements() -> list[str]:
    try:
        return metadata.requires("edgeprune") or []
    except metadata.PackageNotFoundError:  # a source folder on the path, not installed
        return []


def _numbers(requirement: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", requirement)]


def _name(requirement: str) -> str:
    """The distribution, spelled in one way: "onnx-ir" of "onnx_ir>=0.1"."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def command(*words: object) -> str:
    """The words as one line for a shell: `edgeprune run 'my bundle' --prompt TEXT`.

    A word with characters that a terminal would obey instead of showing is spelled with escapes, $'a\\x1bb', as bash and zsh read them.
    """
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(_spelled(char) for char in word)
    return f"$'{escaped}'"


def _spelled(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors="surrogateescape"))
