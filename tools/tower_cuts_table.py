"""Cuts in the tower of a pretrained classifier, on real photographs: what each method loses and what it saves.

Every plan is exported as a graph of its own. Each photograph runs through the whole classifier and through every plan, one after the other
in an order drawn anew, on one thread. The run is resumable: end it and start it again with the same --work; with --plan, only these rows.

    python tools/tower_cuts_table.py --model vit_tiny_patch16_224.safetensors --photographs val.zip --labels labels.csv --work build/cuts
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.tower_cuts.large import made_classifier
from tools.tower_cuts.measure import Asked, macs_of, measure
from tools.tower_cuts.page import cost_table, page_of, rows_of, table, use_of
from tools.tower_cuts.plans import LARGE, PLANS, WHOLE, control_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a ViT classifier")
    parser.add_argument("--photographs", type=Path, required=True, help="zip archive")
    parser.add_argument(
        "--labels", type=Path, required=True, help="CSV with the columns file and label (0-based class)"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of graphs and of what was measured")
    parser.add_argument(
        "--plan", action="append", help="as `edgeprune export --inside` takes it [default: all of the page]"
    )
    parser.add_argument("--precision", action="append", choices=("fp32", "int8"), help="[default: both]")
    parser.add_argument("--limit", type=int, help="only the first N photographs")
    parser.add_argument("--timed", type=int, default=120, help="times are taken on the first N photographs")
    parser.add_argument(
        "--large", type=int, default=10, help="photographs of the times of a tower of real proportions; 0: none of that"
    )
    parser.add_argument("--page", type=Path, help="write the tables as a page, and beside it the numbers as JSON")
    options = parser.parse_args()
    asked = Asked(options.model, options.photographs, options.labels, options.work, options.limit, options.timed)
    plans = tuple(dict.fromkeys((WHOLE, *(options.plan or PLANS))))
    asked.work.mkdir(parents=True, exist_ok=True)
    found = {}
    for precision in options.precision or ("fp32", "int8"):
        record = measure(asked, plans, precision)
        controls = {plan: control for plan in plans if (control := control_of(plan)) in plans}
        rows = rows_of(record, {plan: macs_of(asked, plan, precision) for plan in plans}, controls)
        found[precision] = {"photographs": len(record), "machine": use_of(record), "rows": rows}
        print(f"{precision}\n{table(rows)}", flush=True)
    if options.large:
        large = Asked(
            made_classifier(asked.work / "large"),
            *(options.photographs, options.labels, asked.work / "of-large", options.large, options.large),
        )
        large.work.mkdir(exist_ok=True)
        record = measure(large, LARGE, "fp32")
        rows = rows_of(record, {plan: macs_of(large, plan, "fp32") for plan in LARGE}, {})
        found["large"] = {"photographs": len(record), "machine": use_of(record), "rows": rows}
        print(f"real proportions\n{cost_table(rows)}", flush=True)
    if options.page is not None:
        options.page.write_text(page_of(found), encoding="utf-8")
        options.page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
