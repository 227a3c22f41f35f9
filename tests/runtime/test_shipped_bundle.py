"""The bundle that comes along for `edgeprune selftest` answers on this machine's onnxruntime: also on the lowest that is declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprune_runtime import Model

BUNDLE = Path(__file__).parents[2] / "export" / "edgeprune_export" / "engines" / "selftest_bundle"


def test_the_shipped_bundle_answers() -> None:
    with Model.open(BUNDLE, backend="onnxruntime", threads=1) as model:
        for budget in model.budgets:
            view = model.see(np.zeros((48, 64, 3), np.uint8), budget=budget)
            assert len(model.ask("What is in the picture?", image=view, max_tokens=2).token_ids) in (1, 2)
