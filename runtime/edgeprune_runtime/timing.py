"""Where the time of one request goes: named spans in wall and processor seconds.

Wall time is `time.perf_counter_ns`; processor time is `time.process_time_ns`, the sum over all threads of this process,
so with two busy threads it runs twice as fast as the wall. A machine that is busy with other work shows in the first
and hardly in the second, which is why both are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Span:
    """One stage that ran once: `wall_s` seconds on the clock, `cpu_s` processor seconds of the whole process."""

    name: str
    wall_s: float
    cpu_s: float


class Stopwatch:
    """Collects spans in the order in which they end.

    A span that ends in an exception is not recorded: a stage that failed has no duration worth comparing.
    """

    def __init__(self, wall_ns: Clock = time.perf_counter_ns, cpu_ns: Clock = time.process_time_ns) -> None:
        self._wall_ns = wall_ns
        self._cpu_ns = cpu_ns
        self._spans: list[Span] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        wall, cpu = self._wall_ns(), self._cpu_ns()
        yield
        cpu_end, wall_end = self._cpu_ns(), self._wall_ns()
        self._spans.append(Span(name, (wall_end - wall) / 1e9, (cpu_end - cpu) / 1e9))

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(self._spans)


def wall_s(spans: Iterable[Span], name: str) -> float:
    """Seconds on the clock of all spans called `name`; 0.0 when that stage did not run."""
    return sum(span.wall_s for span in spans if span.name == name)
