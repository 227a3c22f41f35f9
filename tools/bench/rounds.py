"""Interleaved rounds: every contender once per round, in an order shuffled anew, so that drift hits all alike.

Samples are kept in a journal on disk after each round; an interrupted run can go on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from edgeprune_runtime.files import write_whole
from tools.bench.settings import Settings, digest, say

Sample = dict[str, list[float]]
"""Stage -> [wall seconds, processor seconds of the process that did the work]."""
WALL, CPU = 0, 1
Samples = dict[str, list[Sample]]
SEED = 20
_PRODUCT = ("edgeprune/plan.py", "edgeprune/models", "edgeprune/tokens", "export", "runtime")


class Journal:
    """Raw samples of one benchmark by name, saved whenever something is added.

    An interrupted run goes on only with the same options and the same product code.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._path = settings.work / f"samples-{name}.json"
        header = settings.shown() | {"code": digest(_PRODUCT)}
        found = json.loads(self._path.read_text()) if settings.resume and self._path.is_file() else {}
        self._data: dict[str, Any] = found if found.get("settings") == header else {"settings": header, "samples": {}}

    @property
    def samples(self) -> dict[str, Any]:
        return dict(self._data["samples"])

    def once(self, key: str, measure: Callable[[], Any]) -> Any:
        """The value under `key`, measured now unless an interrupted run left it."""
        if key not in self._data["samples"]:
            self._keep(key, measure())
        return self._data["samples"][key]

    def interleaved(
        self,
        key: str,
        contenders: Mapping[str, Callable[[], Sample]],
        *,
        rounds: int,
        warm_up: int = 1,
        warmed: Collection[str] | None = None,
    ) -> Samples:
        """Samples by contender; the i-th of all contenders belong to one round.

        Warm-up rounds are thrown away; they run the contenders named in `warmed`, or all.
        """
        kept: Samples = self._data["samples"].get(key) or {name: [] for name in contenders}
        start = len(next(iter(kept.values())))
        names = list(contenders)
        if start < rounds:
            for _ in range(warm_up):
                for name in names if warmed is None else warmed:
                    contenders[name]()
        for number in range(start, rounds):
            began = time.monotonic()
            order = np.random.default_rng([SEED, number]).permutation(len(names))
            found = {names[i]: contenders[names[i]]() for i in order}
            for name, sample in found.items():
                kept[name].append(sample)
            if number == rounds - 1 or time.monotonic() - began > 1:
                self._keep(key, kept)
                say(f"{key}: round {number + 1} of {rounds}, {time.monotonic() - began:.1f} s")
        return kept

    def _keep(self, key: str, value: Any) -> None:
        self._data["samples"][key] = value
        write_whole(self._path, json.dumps(self._data).encode())


def timed(stage: str, action: Callable[[], object]) -> Sample:
    """Run it; one stage, in this process."""
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    action()
    cpu_end, wall_end = time.process_time_ns(), time.perf_counter_ns()
    return {stage: [(wall_end - wall) / 1e9, (cpu_end - cpu) / 1e9]}


def column(samples: list[Sample], clock: int, *stages: str) -> list[float]:
    """Seconds of each sample on one clock: the sum over `stages`, or over all stages but decode when none is named."""
    return [
        sum(times[clock] for stage, times in sample.items() if (stage in stages if stages else stage != "decode"))
        for sample in samples
    ]


def median(samples: list[Sample], clock: int, *stages: str) -> float:
    return float(np.median(column(samples, clock, *stages)))
