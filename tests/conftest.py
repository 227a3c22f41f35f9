"""Fixtures that many tests share; bundles are exported once per session and are read only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune_runtime import Model


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """A LLaVA-NeXT bundle with budgets 0.2, 0.5, 40 and 1.0 and all controls; read only (`own_bundle` makes a copy)."""
    from tests.exports import tiny

    return tiny()


@pytest.fixture(scope="session")
def opened(tiny_bundle: Path) -> Iterator[Model]:
    """`tiny_bundle`, opened once; a test that changes its policies must set them back."""
    with Model.open(tiny_bundle, threads=1) as model:
        yield model
