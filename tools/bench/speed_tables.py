"""Tables and targets of whole requests."""

from __future__ import annotations

from edgeprune_profiles.report import units
from edgeprune_runtime.statistics import paired_ratio
from tools.bench.page import BRIEF, Section, Target, at_least, brief
from tools.bench.rounds import CPU, SEED, WALL, Samples, column, median

FULL = "1.0"
STAGES = ("preprocess", "tower", "select", "prefill")
UNTOUCHED = ("preprocess", "tower")
_PROMISES = (("fp32", "0.2", 5.0), ("fp32", "0.4", 2.4), ("int8", "0.2", 8.0))
_CLOCKS = {"processor time": CPU, "wall time": WALL}


def targets(requests: Samples) -> list[Target]:
    """Language-model prefill against full budget."""
    found = []
    for precision, budget, wanted in _PROMISES:
        for clock, index in _CLOCKS.items():
            full, this = (column(requests[f"{precision} {b}"], index, "prefill") for b in (FULL, budget))
            promise = f"{precision}: prefill at {budget} >= {wanted:g} x faster than at {FULL}, {clock}"
            found.append(at_least(promise, paired_ratio(full, this, seed=SEED), wanted))
    return found


def sections(requests: Samples, lengths: dict[str, list[int]]) -> list[Section]:
    """Stages on both clocks, ratios to full budget, ratios to transformers."""
    made = [_stages(requests, lengths, clock, index) for clock, index in _CLOCKS.items()]
    made.append(_gains(requests))
    if "transformers" in requests:
        made += _beside_eager(requests)
    return made


def _stages(requests: Samples, lengths: dict[str, list[int]], clock: str, index: int) -> Section:
    rows = []
    for name, samples in requests.items():
        visual, prompt = lengths[name.split()[1] if " " in name else FULL]
        whole = median(samples, index)
        untouched = median(samples, index, *UNTOUCHED)
        stages = [units.seconds(median(samples, index, stage)) for stage in STAGES]
        step = units.seconds(median(samples, index, "decode"))
        cells = [name, str(visual), str(prompt), *stages, units.seconds(whole)]
        rows.append([*cells, f"{units.seconds(untouched)} ({units.percent(untouched / whole, 0)})", step])
    head = ["", "visual tokens", "prompt", *STAGES, "TTFT", "of it untouched by pruning", "next token"]
    text = (
        "Untouched by pruning: preprocessing and the vision tower, which see every tile at every budget. "
        "For transformers, `select` is the projector over all tokens."
    )
    return Section(f"Time to first token by stage, {clock}", text, head, rows)


def _gains(requests: Samples) -> Section:
    rows = []
    for name in requests:
        precision, _, budget = name.partition(" ")
        if budget in ("", FULL):
            continue
        cells = []
        for index in _CLOCKS.values():
            for stages in (("prefill",), (*STAGES,), ("decode",)):
                full, this = (column(requests[f"{precision} {b}"], index, *stages) for b in (FULL, budget))
                cells.append(brief(paired_ratio(full, this, seed=SEED)))
        rows.append([name, *cells])
    head = [
        "full budget / this",
        *(f"{what}, {clock}" for clock in _CLOCKS for what in ("prefill", "TTFT", "next token")),
    ]
    return Section("Times faster than at full budget", f"{_pairs(requests)} {BRIEF}", head, rows)


def _beside_eager(requests: Samples) -> list[Section]:
    """One table per clock."""
    eager = requests["transformers"]
    parts = {"tower": ("tower",), "prefill": ("prefill",), "TTFT": STAGES, "next token": ("decode",)}
    text = (
        f"{_pairs(requests)} transformers keeps every token at every line; above 1 means that edgeprune is faster. The processor time of "
        f"transformers includes threads of PyTorch that wait actively. {BRIEF}"
    )
    made: list[Section] = []
    for clock, index in _CLOCKS.items():
        rows = [
            [
                name,
                *(
                    brief(paired_ratio(column(eager, index, *stages), column(samples, index, *stages), seed=SEED))
                    for stages in parts.values()
                ),
            ]
            for name, samples in requests.items()
            if name != "transformers"
        ]
        title = f"Beside transformers on the same weights (float32), {clock}"
        made.append(Section(title, text if not made else "", ["transformers / this", *parts], rows))
    return made


def _pairs(requests: Samples) -> str:
    return f"{len(next(iter(requests.values())))} pairs."
