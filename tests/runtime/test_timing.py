from __future__ import annotations

from itertools import count

import pytest

from edgeprune_runtime.timing import Span, Stopwatch, wall_s


def ticking(step_ns: int):
    return count(0, step_ns).__next__


def test_spans_are_differences_of_both_clocks_in_seconds():
    watch = Stopwatch(ticking(2_000_000_000), ticking(500_000_000))
    with watch.span("tower"):
        pass
    with watch.span("prefill"):
        pass
    assert watch.spans == (Span("tower", 2.0, 0.5), Span("prefill", 2.0, 0.5))


def test_a_failed_stage_leaves_no_span():
    watch = Stopwatch()
    with pytest.raises(ValueError, match="broken"), watch.span("tower"):
        raise ValueError("broken")
    assert watch.spans == ()


def test_a_stage_that_ran_several_times_is_added_up():
    spans = [Span("tower", 1.0, 2.0), Span("prefill", 8.0, 8.0), Span("tower", 0.5, 1.0)]
    assert wall_s(spans, "tower") == 1.5
    assert wall_s(spans, "decode") == 0.0
