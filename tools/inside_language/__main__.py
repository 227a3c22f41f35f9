"""Accuracy of rows that leave inside the language model against its multiply-accumulates and time, on both reference models.

Every plan is an exported bundle under the runtime: whole, cut at the output only, inside only, both. Accuracy is paired with the whole
picture's answers on the same held-out questions, kind by kind; times are interleaved. Each step is resumable: kill it and start it again.

    python -m tools.inside_language --work build/inside                        # about an hour and a half
    python -m tools.inside_language --work build/inside --scenes 8 --rounds 2 --out /tmp/inside
    python -m tools.inside_language --page                                     # the page again, from what was measured
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from pathlib import Path
from typing import Any

from edgeprune.evaluate import load_questions
from edgeprune_runtime.files import write_whole
from edgeprune_runtime.meters.environment import environment
from tools.bench.settings import ROOT, say
from tools.inside_language.asking import scores
from tools.inside_language.bundles import REFERENCES, ReferenceModel, held_out
from tools.inside_language.page import page
from tools.inside_language.timing import ROUNDS, requests

NAME = "inside-language"
SCENES = 120


def measured(work: Path, scenes: int, rounds: int) -> dict[str, Any]:
    """All that the page says."""
    data = held_out(work, scenes)
    questions = load_questions(data)
    pictures = {image: number for number, image in enumerate(dict.fromkeys(q.image for q in questions))}
    models = {model.name: _of(work, model, data, questions, rounds) for model in REFERENCES}
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": environment().cpu_model,
        "scenes": scenes,
        "load": [round(load, 1) for load in os.getloadavg()],
        "pictures": [pictures[q.image] for q in questions],
        "kinds": [q.kind for q in questions],
        "models": models,
    }


def _of(work: Path, model: ReferenceModel, data: Path, questions: Any, rounds: int) -> dict[str, Any]:
    right = scores(work, model, data, questions)
    say(f"{model.name}: {rounds} rounds of whole requests")
    asked = requests(work, model, questions, rounds)
    return {name: {"right": right[name], **asked[name]} for name in right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="scratch folder; holds bundles, pictures and answers (1 GB)")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"held-out pictures [default: {SCENES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of timed requests [default: {ROUNDS}]")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page from the state beside it")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements", help="folder for page and state")
    options = parser.parse_args()
    state_file = options.out / f"{NAME}.json"
    if options.page:
        state = json.loads(state_file.read_text(encoding="utf-8"))
    elif options.work is None:
        parser.error("--work says where bundles, pictures and answers go; or give --page")
    else:
        state = measured(options.work, options.scenes, options.rounds)
        write_whole(state_file, json.dumps(state, separators=(",", ":")).encode() + b"\n")
    text = page(state)
    (options.out / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
