"""A streamed token of the runtime against a bare IO-binding loop over the same graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeprune_profiles.report import units
from edgeprune_runtime import Model
from edgeprune_runtime.statistics import paired_ratio
from tools.bench.assets import QUESTION
from tools.bench.bare import BareBundle
from tools.bench.page import Section, Target, at_most, interval
from tools.bench.rounds import CPU, SEED, WALL, Journal, Samples, column, median, timed
from tools.bench.settings import Settings, say

BUDGET = "0.2"


def decode(
    journal: Journal, settings: Settings, precision: str, folder: Path, image: Path
) -> tuple[list[Target], Section]:
    """Streamed tokens against the bare loop, alternating, at the same cache length."""
    rounds, warm_up = settings.count(30), 3

    def run() -> Samples:
        say(f"decode against the bare loop, {precision}")
        with Model.open(folder, threads=settings.threads, verify=False) as model:
            view = model.see(image, budget=BUDGET)
            pieces = model.stream(QUESTION, image=view, max_tokens=rounds + warm_up + 2, stop=False)
            next(pieces)
            bare = BareBundle(folder, threads=settings.threads)
            state = _bare_steps(bare, model.language.length)
            runs = {
                "runtime": lambda: timed("decode", lambda: next(pieces)),
                "bare loop": lambda: timed("decode", lambda: next(state)),
            }
            return Journal("decode", settings).interleaved(precision, runs, rounds=rounds, warm_up=warm_up)

    samples: Samples = journal.once(f"{precision} decode", run)
    ratios = {
        clock: paired_ratio(
            column(samples["runtime"], index, "decode"), column(samples["bare loop"], index, "decode"), seed=SEED
        )
        for clock, index in (("processor time", CPU), ("wall time", WALL))
    }
    rows = [
        [name, units.seconds(median(found, CPU, "decode")), units.seconds(median(found, WALL, "decode"))]
        for name, found in samples.items()
    ]
    text = (
        f"One token at budget {BUDGET}: `runtime` is a whole step of `Model.stream` (embedding, graphs, sampling, detokenising), "
        "`bare loop` drives the same two graphs through onnxruntime's IO binding and takes the argmax."
    )
    targets = [
        at_most(
            f"{precision}: decode step <= 1.10 x a bare IO-binding loop, {clock}", interval(ratio), ratio.point, 1.1
        )
        for clock, ratio in ratios.items()
    ]
    return targets, Section(f"Decode step, {precision}", text, ["", "processor time", "wall time"], rows)


def _bare_steps(bare: BareBundle, length: int) -> Iterator[None]:
    token = bare.prefill(length)
    position = length
    while True:
        token = bare.step(token, position)
        position += 1
        yield
