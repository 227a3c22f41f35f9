"""Write a report: the raw data of `record.py`, and beside it what it says today, for readers without edgeprune."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report.digest import digest
from edgeprune_runtime.files import write_json

DERIVED = ("verdict", "budgets", "soak")


def save_report(report: Report, path: Path) -> None:
    """Whole or not at all. Raises OutputError."""
    facts = digest(report)
    whole = {**msgspec.structs.asdict(report), "derived": {name: facts[name] for name in DERIVED}}
    write_json(path, whole)
