"""What a user is told about methods: the same facts for the command line and the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from edgeprune.plan import MethodPlan
from edgeprune.tokens.readings import READINGS
from edgeprune.tokens.registry.method import Method

#: A tower to describe methods on: 24 layers, features from the last but one, as LLaVA uses CLIP-L.
TYPICAL = MethodPlan(feature_layer=22, last_layer=23)


def facts(method: Method) -> dict[str, Any]:
    """Everything that is known about a method, as plain data."""
    reads = method.reads(TYPICAL)
    return {
        "name": method.name,
        "summary": method.summary,
        "source": method.source,
        "evidence": method.evidence,
        "differs": method.differs,
        "reads": [*reads.tower, *reads.host] or ["layout only" if method.evidence == "control" else "features"],
        "acts": method.acts,
        "class_token": "class token" in reads.needs,
        "question": "question" in reads,
        "calibration": method.calibration.help if method.calibration else None,
        "settings": {s.name: {"default": s.default, "help": s.help} for s in method.settings},
        "growth": method.cost,
        "measured": costs().get("methods", {}).get(method.name),
    }


@cache
def costs() -> Mapping[str, Any]:
    """Measured selector times that ship with the package, with the conditions; empty when there are none."""
    source = files("edgeprune.tokens.registry").joinpath("costs.json")
    return json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}


def reads_in_words(method: Method) -> str:
    """ "class attention of layers 0, 22; question"."""
    kinds: dict[str, list[str]] = {}
    for read in method.reads(TYPICAL):
        if words := READINGS[read.kind].words:
            kinds.setdefault(words, []).extend([] if read.layer is None else [str(read.layer)])
    return "; ".join(" ".join((words, ", ".join(layers))).strip() for words, layers in kinds.items()) or "-"


def milliseconds(method: Method, tokens: int) -> str:
    """Measured time and share of a full prefill: "3.1 ms (0.01 %)"; "-" where it was not measured."""
    found = (costs().get("methods", {}).get(method.name) or {}).get(str(tokens))
    if found is None:
        return "-"
    share = found.get("share_of_prefill")
    text = f"{found['ms']:.3g} ms"
    return text if share is None else f"{text} ({100 * share:.2g} %)"


def markdown_table(methods: list[Method]) -> str:
    """The table of docs/methods.md."""
    titles = ("method", "what it keeps", "reads (of 24 layers)", "calibration", "evidence", "N = 576", "N = 2880")
    rows = [
        (
            f"`{m.name}`",
            m.summary,
            reads_in_words(m),
            "optional" if m.calibration else "-",
            m.evidence,
            milliseconds(m, 576),
            milliseconds(m, 2880),
        )
        for m in methods
    ]
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
