"""Fixtures that many tests share; how the tests are sorted, shared out to workers, and what they keep between runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Two workers fill two cores: one thread each for what reads these when it is imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

from edgeprune_runtime import Model  # noqa: E402
from tests import kept  # noqa: E402


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "cache"):
        kept.keep_under(Path(config.cache.mkdir("made")))  # type: ignore[union-attr]
    if not is_worker(config):
        kept.clean()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Kept things are read only: a run in which one was changed fails."""
    if not is_worker(session.config) and (spoilt := kept.changed()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.get_terminal_writer().line(f"a test changed what it may only read: {', '.join(spoilt)}", red=True)


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
