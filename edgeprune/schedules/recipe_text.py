"""A searched schedule as a recipe: TOML that `edgeprune export --recipe` takes, with its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from edgeprune.schedules.evidence import ScheduleEvidence
from edgeprune.schedules.plan import SchedulePlan


def recipe_text(
    plan: SchedulePlan,
    method: str | None,
    settings: Mapping[str, float],
    export: Mapping[str, Any],
    evidence: ScheduleEvidence,
) -> str:
    """method, settings: of the output, None for a classifier; export: what the recipe says of the export beside its tokens."""
    tokens: dict[str, Any] = {}
    if plan.budget is not None:
        tokens["budgets"] = [plan.budget.ratio if plan.budget.count is None else plan.budget.count]
    if plan.by_picture:
        tokens["budget_of"] = "picture"
    if method is not None:
        tokens["method"] = method
    parts = [
        f"# {evidence.said}",
        _table("tokens", tokens),
        *([_table("tokens.settings", settings)] if settings else []),
        *(_inside(msgspec.to_builtins(one)) for one in plan.inside),
        *([_table("export", export)] if export else []),
        _table("evidence", msgspec.to_builtins(evidence)),
    ]
    return "\n".join(parts)


def _inside(said: dict[str, Any]) -> str:
    settings = said.pop("settings")
    text = _table("tokens.inside", said, repeated=True)
    return text + (_table("tokens.inside.settings", settings) if settings else "")


def _table(name: str, values: Mapping[str, Any], *, repeated: bool = False) -> str:
    head = f"[[{name}]]" if repeated else f"[{name}]"
    return "\n".join([head, *(f"{key} = {_value(value)}" for key, value in values.items())]) + "\n"


def _value(value: Any) -> str:
    """Text, a number, true or false, or a list of them: JSON's spelling is TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
