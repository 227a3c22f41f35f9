"""The largest budget whose projection meets a target on a board, before anything is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.device_file import load_device
from edgeprune_profiles.boards.memory_fit import MIB, MemoryFit, heaviest_graph, memory_at_least
from edgeprune_profiles.boards.model import planned_request
from edgeprune_profiles.boards.project import (
    StageProjection,
    first_token_s,
    limiting_stage,
    project_stages,
    rate,
    target,
)
from edgeprune_profiles.boards.published import published_samples
from edgeprune_profiles.boards.recommend import largest_budget
from edgeprune_profiles.measure.work import RequestShape
from edgeprune_profiles.record import quantities as q
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.spec import GraphWork
from edgeprune_runtime.statistics import Interval

#: Tokens of the answer that is asked for.
ANSWER_TOKENS = 16


@dataclass(frozen=True)
class FitTarget:
    """What a board must reach; None where it does not matter. `text`: as the user wrote it."""

    text: str
    device: Device
    ttft_s: float | None
    tokens_per_s: float | None


@dataclass(frozen=True)
class FittedBudget:
    """`keep` of the `candidates` of a picture that fills the largest tile grid, and the projected time to the first token."""

    keep: int
    candidates: int
    ttft_s: Interval

    @property
    def budget(self) -> str:
        return "1.0" if self.keep == self.candidates else str(self.keep)


def fit_target_from_text(text: str) -> FitTarget:
    """Read device=orin-nano-8gb,ttft=1s,tokens-per-s=10. Raises MeasurementError for anything else."""
    asked = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if "device" not in asked or set(asked) - {"device", "ttft", "tokens-per-s"} or len(asked) < 2:
        raise MeasurementError(
            f"--fit is {text!r}; expected device=NAME with ttft=TIME, tokens-per-s=NUMBER or both, as device=orin-nano-8gb,ttft=1s"
        )
    first, rate_ = asked.get("ttft"), asked.get("tokens-per-s")
    return FitTarget(
        text,
        load_device(asked["device"]),
        None if first is None else q.quantity(first, q.SECONDS, "ttft in --fit"),
        None if rate_ is None else q.quantity(rate_, q.PER_SECOND, "tokens-per-s in --fit"),
    )


def fitted_budget(
    asked: FitTarget,
    model: str,
    picture: PictureSpec,
    stored: str,
    chunk: int,
    work: Callable[[int], Mapping[str, GraphWork]],
) -> FittedBudget:
    """The whole interval must meet the target, and the board's memory must hold it. Raises MeasurementError if no budget does.

    model    name under which samples know it
    picture  how it cuts pictures
    stored   precision of the weights: fp32, int8 or int4
    chunk    positions per run of the prefill graph
    work     what the graphs "tower", "select", "prefill", "decode" and "head" would do at a given K
    """
    where = target(asked.device, stored)
    plan = planned_request(picture, None)
    candidates = plan.candidates

    def asking(keep: int) -> RequestShape:
        return plan.shape(keep, ANSWER_TOKENS, str(keep), keep / candidates)

    def projected(keep: int) -> tuple[StageProjection, ...]:
        return project_stages(model, chunk, work(keep), asking(keep), where, published_samples())

    def held(keep: int) -> MemoryFit:
        positions = asking(keep).positions + ANSWER_TOKENS
        return memory_at_least(work(keep), positions, asked.device, where.precision)

    if held(1).verdict == "does not fit":
        raise MeasurementError(_too_large(asked, held(1), heaviest_graph(work(1))))

    def meets(keep: int) -> bool:
        if held(keep).verdict == "does not fit":
            return False
        stages = projected(keep)
        soon = asked.ttft_s is None or first_token_s(stages).high <= asked.ttft_s
        return soon and (asked.tokens_per_s is None or rate(stages[-1].time_s).low >= asked.tokens_per_s)

    found = largest_budget(meets, candidates)
    if found is None:
        one = projected(1)
        raise MeasurementError(
            f"no budget meets {asked.text}: with a single token the first one may take up to {first_token_s(one).high:.3g} s and "
            f"{rate(one[-1].time_s).low:.3g} tokens/s may be all; {_limit(asked, one)}"
        )
    return FittedBudget(found, candidates, first_token_s(projected(found)))


def _limit(asked: FitTarget, stages: Sequence[StageProjection]) -> str:
    """Which stage is to blame, and what helps there."""
    late = asked.ttft_s is not None and first_token_s(stages).high > asked.ttft_s
    stage = limiting_stage(stages[:-1]) if late else stages[-1].stage
    part = "tower" if stage == "tower" else "language model"
    return (
        f"{stage} limits, which a budget does not shorten further: prune the {part} (--structure), or change the board"
    )


def _too_large(asked: FitTarget, memory: MemoryFit, graph: str) -> str:
    needed, there = memory.application_bytes + memory.system_bytes, memory.size_bytes or 0
    return (
        f"no budget fits {asked.device.name}: at least {needed / MIB:.0f} MiB are needed "
        f"({memory.weights_bytes / MIB:.0f} MiB of weights, most of them of {graph}), it has {there / MIB:.0f} MiB; "
        "a budget makes no weights smaller: prune the model, store int8 for a processor, or change the board"
    )
