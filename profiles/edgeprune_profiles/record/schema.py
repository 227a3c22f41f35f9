"""The published schema of report files: JSON Schema 2020-12, made from the types of `record.py`.

    python -m edgeprune_profiles.record.schema > docs/schema/profile.json

A test holds the file in `docs/` equal to what this writes. A field that is added or whose meaning changes raises `record.SCHEMA`.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import msgspec

from edgeprune_profiles.record.profile import SCHEMA, Report


def report_schema() -> dict[str, Any]:
    """Readers must pass over fields that they do not know."""
    (reference,), components = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    components["Report"]["properties"]["derived"] = {
        "type": "object",
        "description": "Verdict, percentiles and ratios computed from the raw data when the file was written; not read back.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Report of edgeprune profile, schema {SCHEMA}",
        **reference,
        "$defs": {name: _dedented(component) for name, component in components.items()},
    }


def _dedented(component: dict[str, Any]) -> dict[str, Any]:
    """The docstring of a type without the indentation of its source, which Python strips from 3.13 on."""
    described = component.get("description")
    return component if described is None else {**component, "description": inspect.cleandoc(described)}


def schema_text() -> str:
    """Ends with a newline."""
    return msgspec.json.format(msgspec.json.encode(report_schema(), order="sorted"), indent=1).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
