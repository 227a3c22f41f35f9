"""What one answer took, in the field's words: TTFT, TPOT, prefill, decode, tokens/s, tokens kept; the same names in --json."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune_profiles.report import units
from edgeprune_runtime import Answer
from edgeprune_runtime.timing import wall_s

_DECODE = "decode"


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """Seconds on the clock. `tpot_s` is the mean of the steps after the first token; None where there was none."""

    stages: dict[str, float]
    ttft_s: float
    tpot_s: float | None
    steps_s: tuple[float, ...]

    @property
    def tokens_per_s(self) -> float | None:
        return 1 / self.tpot_s if self.tpot_s else None


def times_of(answer: Answer) -> AnswerTimes:
    steps = tuple(span.wall_s for span in answer.spans if span.name == _DECODE)
    return AnswerTimes(
        stages={name: wall_s(answer.spans, name) for name in dict.fromkeys(span.name for span in answer.spans)},
        ttft_s=sum(span.wall_s for span in answer.spans if span.name != _DECODE),
        tpot_s=sum(steps) / len(steps) if steps else None,
        steps_s=steps,
    )


def answer_lines(answer: Answer, candidates: int | None) -> tuple[str, str]:
    """(tokens, times) for a person. `candidates`: visual tokens of the picture; None without one."""
    times = times_of(answer)
    kept = ""
    if candidates is not None:
        inside = f", {' then '.join(map(str, answer.inside))} inside" if answer.inside else ""
        kept = f"{answer.visual_tokens} of {candidates} visual tokens kept (budget {answer.budget}, {answer.method}){inside}, "
    before = ", ".join(f"{name} {units.seconds(taken)}" for name, taken in times.stages.items() if name != _DECODE)
    encoded = candidates is not None and "tower" not in times.stages
    why = [
        *(["the picture was encoded before"] if encoded else []),
        *(
            [f"{answer.cached_tokens} of {answer.prompt_tokens} prompt tokens were in the cache"]
            if answer.cached_tokens
            else []
        ),
    ]
    known = f"; {', '.join(why)}" if why else ""
    further = ""
    if times.tpot_s is not None:
        further = f", TPOT {units.seconds(times.tpot_s)} (decode), {units.rate(times.tokens_per_s)} tokens/s"
    return (
        f"{kept}{answer.prompt_tokens} prompt tokens, {len(answer.token_ids)} output tokens",
        f"TTFT {units.seconds(times.ttft_s)} ({before}{known}){further}",
    )


def timings(answer: Answer) -> dict[str, object]:
    """The same for --json, in seconds."""
    times = times_of(answer)
    return {
        **{f"{name}_s": taken for name, taken in times.stages.items()},
        "decode_steps_s": times.steps_s,
        "ttft_s": times.ttft_s,
        "tpot_s": times.tpot_s,
        "tokens_per_s": times.tokens_per_s,
    }
