"""The published schema is that of the types, and describes what is written."""

from __future__ import annotations

import json
from pathlib import Path

from edgeprune_profiles.record.profile import SCHEMA
from edgeprune_profiles.record.saving import save_report
from edgeprune_profiles.record.schema import report_schema, schema_text
from tests.profiles.powered import powered_report

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "profile.json"


def test_the_published_file_is_what_the_types_say() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), (
        "run `python -m edgeprune_profiles.record.schema > docs/schema/profile.json`"
    )


def test_it_names_its_version() -> None:
    assert report_schema()["title"].endswith(f"schema {SCHEMA}")


def test_every_field_that_is_written_is_described(tmp_path: Path) -> None:
    save_report(powered_report(), tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text())
    defined = report_schema()["$defs"]
    assert set(written) == set(defined["Report"]["properties"])
    for name, value in (
        ("BudgetResult", written["budgets"][0]),
        ("PowerWindow", written["budgets"][0]["power"][0]),
        ("Trace", written["budgets"][0]["power"][0]["run"]["trace"]),
        ("Soak", written["soak"]),
        ("BackendUse", written["backend"]),
        ("Environment", written["environment"]),
    ):
        assert set(value) == set(defined[name]["properties"])
