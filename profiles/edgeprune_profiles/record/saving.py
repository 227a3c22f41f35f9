"""Write a report: the raw data of `record.py`, and beside it what it says today, for readers without edgeprune."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeprune_profiles.record.files import write_whole
from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report.digest import digest

DERIVED = ("verdict", "budgets", "soak")


def save_report(report: Report, path: Path) -> None:
    """Write through a temporary sibling and a rename: a kill leaves the old file or the new one."""
    facts = digest(report)
    whole = {**msgspec.structs.asdict(report), "derived": {name: facts[name] for name in DERIVED}}
    write_whole(path, msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
