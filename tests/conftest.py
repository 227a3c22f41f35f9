"""How the tests are run, and the fixtures that many of them share.

make test-fast                      # all that is not slow, on two workers
make test                           # everything, on two workers; then, one by one, what times the machine (`alone`)
pytest tests/runtime                # one family of tests, in one process: no options needed
pytest -m "prune and not slow"      # by marker; `pytest --markers` says what each means
pytest -n 2 --dist loadgroup ...    # what make does; -n 0 --pdb to look into a failure

Markers are given here, from a test's folder and from what its code calls (tests/sorting.py), beside `slow` on files that take long
for another reason. Under xdist the tests of one file stay in one worker, in their order, so that fixtures of a module are made
once; `xdist_group` takes others together: blocks of one section of a page, tests that measure the machine.

Made checkpoints, exported bundles and pruned checkpoints are kept in .pytest_cache for as long as no source changes (tests/kept.py):
they are shared by workers and by the next run, and a test that writes to one makes the run fail. without .pytest_cache all are made anew.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Two workers fill two cores: one thread each for what reads these when it is imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# readline, which pytest imports, tells child processes of a terminal that workers do not have; every width would follow it.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

import pytest  # noqa: E402

from edgeprune_runtime import Model  # noqa: E402
from tests import kept, sorting  # noqa: E402


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "cache"):
        kept.keep_under(Path(config.cache.mkdir("made")))  # type: ignore[union-attr]
    kept.state()
    if not is_worker(config):
        kept.clean()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        sorting.mark(item)
    sorting.longest_first(items)


def pytest_collection_finish() -> None:
    """What was imported lives to the end: torch and transformers need not be searched for garbage in every collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist loadgroup: by `xdist_group`, and by file where there is none; in the order of collection."""
    if config.getoption("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False
    from xdist.scheduler import LoadGroupScheduling

    class ByGroupOrFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group = super()._split_scope(nodeid)
            return group if group != nodeid else nodeid.partition("::")[0]

    return ByGroupOrFile(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Kept things are read only: a run in which one was changed fails."""
    if not is_worker(session.config) and (spoilt := kept.changed()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.get_terminal_writer().line(
            f"a test changed what it may only read: {', '.join(spoilt)}", red=True
        )


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
