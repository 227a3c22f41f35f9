"""Make the tiny bundle that `edgeprune selftest` brings along: random weights, a real shape. Run it again when the bundle schema changes.

python tools/make_selftest_bundle.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeprune.plan import budget_from_text
from edgeprune_export.bundle.options import ExportOptions
from edgeprune_export.commands.export import export
from tools.checkpoints.recipe import Recipe
from tools.checkpoints.write import make_checkpoint

BUNDLE = ROOT / "export/edgeprune_export/engines/selftest_bundle"
RECIPE: dict[str, Any] = {"decoder": "qwen2", "head_dim": 32, "tied": True, "dtype": "float16"}
BUDGETS = tuple(budget_from_text(text) for text in ("0.2", "1.0"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BUNDLE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "selftest"
        make_checkpoint(checkpoint, Recipe(**RECIPE))
        export(
            checkpoint,
            options.out,
            ExportOptions(
                BUDGETS,
                chunk=32,
                text_tokens=64,
                controls=False,
                force=True,
                command="python tools/make_selftest_bundle.py",
            ),
        )


if __name__ == "__main__":
    main()
