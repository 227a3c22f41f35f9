"""Answer with a bundle in this process and print its memory after every step, as JSON.

With "bare" as first budget the same graphs run without edgeprune, on noise: what onnxruntime needs by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.bench.process import mapped_bytes, memory_of

STEPS: dict[str, dict[str, int]] = {}
NEW_TOKENS = 4


def note(step: str) -> None:
    STEPS[step] = memory_of() | {"weights": mapped_bytes("weights.bin")}


def answer(folder: Path, picture: str, threads: int, budgets: list[str]) -> dict[str, int]:
    """As a user would; each budget answers twice."""
    from edgeprune_runtime import Model

    note("imported")
    with Model.open(folder, threads=threads, verify=False) as model:
        note("opened")
        length = 0
        for budget in budgets:
            found = model.ask("What is the number?", image=picture, budget=budget, max_tokens=NEW_TOKENS, stop=False)
            length = max(length, found.prompt_tokens)
            note(f"first answer {budget}")
            model.ask("What is the number?", image=picture, budget=budget, max_tokens=NEW_TOKENS, stop=False)
            note(f"answered {budget}")
        language = model.bundle.manifest.language
        return {
            "cache": model.language.cache_bytes,
            "capacity": language.capacity,
            "prompt": length,
            "chunk": language.chunk,
        }


def bare(folder: Path, threads: int, budget: str, length: int) -> dict[str, int]:
    """The graphs of one budget, each run as often as an answer does."""
    from tools.bench.bare import BareBundle

    note("imported")
    bundle = BareBundle(folder, threads=threads)
    chosen = next(s for s in bundle.manifest["selections"] if s["budget"] == budget and s["method"] == "hired")
    for name in ("tower", chosen["graph"], "prefill", "decode", "head"):
        bundle.graph(name)
    note("opened")
    for _ in range(2):
        for _ in range(5):
            bundle.graph("tower").run()
        bundle.graph(chosen["graph"]).run()
        token = bundle.prefill(length)
        for step in range(NEW_TOKENS - 1):
            token = bundle.step(token, length + step)
    note("answered")
    return {"prompt": length}


def main() -> None:
    """Arguments: bundle, picture, threads, budgets...; or bundle, picture, threads, "bare", budget, prompt length."""
    folder, picture, threads, *rest = sys.argv[1:]
    note("started")
    where, count = Path(folder), int(threads)
    facts = bare(where, count, rest[1], int(rest[2])) if rest[0] == "bare" else answer(where, picture, count, rest)
    print(json.dumps({"steps": STEPS, **facts}))


if __name__ == "__main__":
    main()
