"""What README shows of `make demo` was asked for as the demo asks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_sample_is_of_the_needs_and_budgets_of_the_demo() -> None:
    makefile, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md"))
    demo = makefile.partition("\ndemo:")[2].partition("\n\n")[0]
    needs = re.search(r"--ttft \S+ --accuracy \S+", demo)
    assert needs is not None and f"`{needs[0]}`" in readme
    sample = readme.partition("Take budget ")[2].partition("```")[0]
    budgets = re.findall(r"--budget (\S+)", demo)
    assert sample.split()[0] in budgets and f"of {len(budgets)}, all of which" in sample and "at most\n1.00 s" in sample
