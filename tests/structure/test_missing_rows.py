"""Tables of measurements grow by rows: what is committed stays, and nothing is added beside numbers that no longer hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools import methods_table, selector_costs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "measurements" / "methods.md"


def test_rows_of_a_page_are_read_as_they_stand() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = methods_table.stated(text)
    assert "random" in rows and all(len(cells) == len(methods_table.BUDGETS) for cells in rows.values())
    for name, cells in rows.items():
        assert f"| {name} | {' | '.join(cells)} |" in text


def test_a_row_joins_the_others_only_beside_the_same_random() -> None:
    before = {"random": ("50.0",), "old": ("60.0 (+10.0 [+8.0, +12.0]) *",)}
    assert methods_table.merged(before, {"random": ("50.0",), "new": ("70.0",)}) == {**before, "new": ("70.0",)}
    with pytest.raises(SystemExit, match="measure all methods again"):
        methods_table.merged(before, {"random": ("51.0",), "new": ("70.0",)})


def measured(anchor_ms: float, new_ms: float) -> dict[int, dict[str, dict[str, float]]]:
    names = dict.fromkeys(selector_costs.ANCHORS, anchor_ms) | {"dart": new_ms}
    return {n: {name: {"ms": ms} for name, ms in names.items()} for n in (576, 2880)}


def stored(anchor_ms: float, processor: str = "this processor") -> dict[str, Any]:
    rows = {name: {"576": {"ms": anchor_ms}, "2880": {"ms": anchor_ms}} for name in selector_costs.ANCHORS}
    return {"conditions": f"one thread of {processor}, onnxruntime", "prefill_ms": 1000, "methods": rows}


def test_costs_are_added_on_the_machine_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector_costs, "processor", lambda: "this processor")
    before = stored(5)
    found = selector_costs.added(before, measured(5.5, 20))
    assert found["methods"]["dart"]["2880"] == {"ms": 20, "share_of_prefill": 0.02}
    assert {name: row for name, row in found["methods"].items() if name != "dart"} == before["methods"]
    with pytest.raises(SystemExit, match="measure all methods on this machine"):
        selector_costs.added(before, measured(2, 20))
    with pytest.raises(SystemExit, match="another processor"):
        selector_costs.added(stored(5, "another"), measured(5, 20))
