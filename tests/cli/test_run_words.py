"""What `run` says of an answer: the field's words in text and in --json, in 80 columns."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.cli.measure.answer_text import answer_lines, times_of
from edgeprune_profiles.measure.picture import draw_picture
from edgeprune_profiles.report import units
from edgeprune_runtime import Answer, Span
from tests.commands import answer, invoke

SPANS = (Span("preprocess", 0.002, 0), Span("tower", 0.03, 0), Span("tower", 0.04, 0), Span("select", 0.001, 0))
SPANS += (Span("prefill", 0.1, 0), Span("decode", 0.02, 0), Span("decode", 0.03, 0))


def given(spans: tuple[Span, ...] = SPANS) -> Answer:
    return Answer("yes", (1, 2, 3), "stop", 83, 64, "0.2", "hired", (), spans)


def lines(one: Answer, candidates: int | None) -> list[str]:
    return [line.replace(units.NBSP, " ") for line in answer_lines(one, candidates)]


def test_tokens_and_times_have_the_fields_names() -> None:
    assert lines(given(), 320) == [
        "64 of 320 visual tokens kept (budget 0.2, hired), 83 prompt tokens, 3 output tokens",
        "TTFT 173 ms (preprocess 2.00 ms, tower 70.0 ms, select 1.00 ms, prefill 100 ms), TPOT 25.0 ms (decode), 40.0 tokens/s",
    ]
    times = times_of(given())
    assert (times.ttft_s, times.tpot_s, times.tokens_per_s) == pytest.approx((0.173, 0.025, 40.0))


def test_a_further_question_says_why_its_first_token_comes_so_soon() -> None:
    _, times = lines(given((Span("prefill", 0.1, 0),)), 320)
    assert times == "TTFT 100 ms (prefill 100 ms; the picture was encoded before)"
    _, times = lines(replace(given((Span("prefill", 0.1, 0),)), cached_tokens=64), 320)
    assert times == (
        "TTFT 100 ms (prefill 100 ms; the picture was encoded before, 64 of 83 prompt tokens were in the cache)"
    )
    _, times = lines(replace(given((Span("prefill", 0.1, 0),)), cached_tokens=32), None)
    assert times == "TTFT 100 ms (prefill 100 ms; 32 of 83 prompt tokens were in the cache)"


def test_without_a_picture_no_visual_tokens_are_spoken_of() -> None:
    assert lines(given((Span("prefill", 0.1, 0),)), None) == [
        "83 prompt tokens, 3 output tokens",
        "TTFT 100 ms (prefill 100 ms)",
    ]


def test_the_command_says_the_same_in_text_and_in_json(tiny_bundle: Path, tmp_path: Path) -> None:
    draw_picture(96, 96).save(tmp_path / "p.png")
    asked = (
        "run",
        tiny_bundle,
        "--image",
        tmp_path / "p.png",
        "--prompt",
        "what is this ?",
        "--budget",
        "0.2",
        "--max-tokens",
        3,
    )
    text = invoke(*asked).stderr.replace(units.NBSP, " ")
    found = answer(*asked)
    kept, of = found["visual_tokens"], found["candidates"]
    assert 0 < kept < of
    assert f"{kept} of {of} visual tokens kept (budget 0.2, hired)" in text
    assert f"{found['output_tokens']} output tokens" in text and found["output_tokens"] == len(found["token_ids"])
    assert re.search(r"TTFT .* \(preprocess .*, tower .*, select .*, prefill .*\)", text)
    times = found["timings"]
    assert times["ttft_s"] == pytest.approx(sum(times[f"{s}_s"] for s in ("preprocess", "tower", "select", "prefill")))
    assert times["tpot_s"] is None or times["tokens_per_s"] == pytest.approx(1 / times["tpot_s"])
