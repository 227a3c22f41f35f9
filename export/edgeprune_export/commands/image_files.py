"""Pictures of a folder, and a seeded draw of some of them: what every calibration starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
T = TypeVar("T")


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def drawn(found: Sequence[T], count: int | None, seed: int) -> list[T]:
    """`count` of them (None: all) in their order, chosen with `seed`."""
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[i] for i in sorted(chosen.tolist())]
