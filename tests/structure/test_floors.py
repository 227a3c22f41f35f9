"""`make floors` proves what pyproject.toml declares: every requirement has a lowest version, and the files that are run are there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.floors import EXPORT_FILES, EXTRAS, files_of, floors_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]


@pytest.mark.parametrize("kind", EXTRAS)
def test_every_requirement_has_a_lowest_version(kind: str) -> None:
    texts = [
        *PROJECT["dependencies"],
        *(text for extra in EXTRAS[kind] for text in PROJECT["optional-dependencies"][extra]),
    ]
    found = floors_of(kind, PYPROJECT)
    assert set(found) == {Requirement(text).name for text in texts}
    assert all(Requirement(text).specifier.contains(found[Requirement(text).name]) for text in texts)


def test_the_files_of_the_base_install_need_no_more_than_it() -> None:
    files = files_of("base")
    assert "tests/runtime/test_shipped_bundle.py" in files and len(files) > 30
    for name in files:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert (
            "\nimport torch" not in text
            and "\nfrom tests.exports" not in text
            and "\nfrom edgeprune_export" not in text
        )


def test_the_files_of_the_exporter_are_there() -> None:
    assert all((ROOT / name).is_file() for name in EXPORT_FILES)
