"""What is installed here."""

from __future__ import annotations

from importlib import metadata


def version_of(*distributions: str) -> str | None:
    """Version of the first of these distributions that is installed; None: none is."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
