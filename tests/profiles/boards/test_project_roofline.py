"""Ideal times, work of a request and memory, each computed by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeprune_profiles.boards.memory_fit import MIB, MemoryFit, heaviest_graph, memory_at_least, memory_fit
from edgeprune_profiles.boards.roofline import LEAST_LAUNCH_S, LIKELY_LAUNCH_S, UNKNOWN_LAUNCH_S, ideal
from edgeprune_profiles.measure.work import Load, RequestShape, Stage, request_shape, request_stages
from edgeprune_runtime import Bundle, Model
from edgeprune_runtime.errors import BudgetError, MeasurementError
from edgeprune_runtime.spec import GraphWork
from tests.profiles.made_boards import board, figure

GRAPHS = {
    "tower": GraphWork(
        macs={"linear": 100, "conv": 10}, weight_bytes={"fp32": 400}, activation_bytes=40, peak_bytes=30, nodes=5
    ),
    "pick": GraphWork(
        macs={"linear": 20}, weight_bytes={"fp32": 80, "int64": 8}, activation_bytes=10, peak_bytes=20, nodes=7
    ),
    "prefill": GraphWork(
        macs={"linear": 1000},
        pair_macs=2,
        weight_bytes={"fp32": 4000},
        activation_bytes=100,
        peak_bytes=50,
        cache_bytes=16,
        nodes=9,
    ),
    "decode": GraphWork(
        macs={"linear": 50},
        pair_macs=2,
        weight_bytes={"fp32": 4000},
        activation_bytes=4,
        peak_bytes=4,
        cache_bytes=16,
        nodes=9,
    ),
    "head": GraphWork(macs={"linear": 6}, weight_bytes={"fp32": 24}, nodes=1),
}
SHAPE = RequestShape("0.2", "hired", "pick", "tower", 0.2, tiles=3, visual=5, positions=25, answer=3)


def stages(precision: str | None = None) -> dict[str, Stage]:
    return {stage.name: stage for stage in request_stages(10, GRAPHS, SHAPE, precision)}


def test_arithmetic_or_memory_whichever_takes_longer() -> None:
    compute = ideal(board(), Stage("tower", ((2.0, Load({"fp32": 5e11}, 1e9, 3)),)))
    assert (compute.seconds, compute.bound) == (2 * 1.0, "compute")  # 2 x 5e11 operations at 1e12
    assert compute.launch_s == pytest.approx(6e-6)
    memory = ideal(board(), Stage("decode", ((1.0, Load({"fp32": 1e9}, 50e9, 0)),)))
    assert (memory.seconds, memory.bound) == (0.5, "memory")  # 50 GB at 100 GB/s, arithmetic 2 ms


def test_precisions_add_up_and_the_main_one_names_the_stage() -> None:
    mixed = ideal(board(), Stage("x", ((1.0, Load({"fp32": 1e11, "int8": 8e11}, 0.0, 0)),)))
    assert mixed.seconds == pytest.approx(0.2 + 0.4)
    assert mixed.precision == "int8"


def test_runs_of_a_stage_are_bounded_each_on_its_own() -> None:
    slow = Load({"fp32": 5e11}, 0.0, 0)  # 1 s of arithmetic
    wide = Load({"fp32": 0.0}, 100e9, 0)  # 1 s of memory
    assert ideal(board(), Stage("x", ((1.0, slow), (1.0, wide)))).seconds == pytest.approx(2.0)


def test_an_unknown_overhead_is_assumed_at_both_ends_and_in_the_middle() -> None:
    found = ideal(board(launch_s=None), Stage("x", ((2.0, Load({"fp32": 1.0}, 1.0, 10)),)))
    assert (found.launch_s, found.launch_most_s) == (0.0, 20 * UNKNOWN_LAUNCH_S)
    assert (found.launch_least_s, found.launch_likely_s) == (20 * LEAST_LAUNCH_S, 20 * LIKELY_LAUNCH_S)
    known = ideal(board(launch_s=figure(1e-6)), Stage("x", ((2.0, Load({"fp32": 1.0}, 1.0, 10)),)))
    assert (known.launch_s, known.launch_least_s, known.launch_likely_s) == (pytest.approx(20e-6), 0.0, 0.0)


def test_the_floor_is_arithmetic_and_what_no_cache_holds() -> None:
    """100 GB/s; a card's caches are taken to be at most 128 MiB."""
    large = Stage("decode", ((1.0, Load({"fp32": 1e9}, 11e9, 0, 10e9)),))
    assert ideal(board(), large).floor_s == pytest.approx(0.1)
    small = Stage("decode", ((1.0, Load({"fp32": 1e9}, 11e9, 0, 128 << 20)),))
    assert ideal(board(), small).floor_s == pytest.approx(2e9 / 1e12)
    assert ideal(board(kind="cpu"), small).floor_s == 0.0, "a measured peak is no floor"
    assert ideal(board(kind="cpu"), large).floor_s == pytest.approx(0.1)


def test_a_figure_that_is_missing_is_named() -> None:
    with pytest.raises(MeasurementError, match="peak rate in int8"):
        ideal(board(peak_per_s={}), Stage("x", ((1.0, Load({"int8": 1.0}, 1.0, 0)),)))


def test_the_work_of_a_request_by_hand() -> None:
    found = stages()
    assert found["tower"].runs == ((3.0, Load({"fp32": 110.0}, 440.0, 5, 400.0)),)
    assert found["select"].runs == ((1.0, Load({"fp32": 20.0}, 98.0, 7, 88.0)),)
    (chunks, prefill), (once, head) = found["prefill"].runs  # 25 positions are three chunks of 10
    assert (chunks, once) == (3.0, 1.0)
    assert chunks * prefill.macs["fp32"] == pytest.approx(3 * 1000 + 2 * (30 * 31 / 2))
    assert chunks * prefill.moved_bytes == pytest.approx(3 * 4100 + 16 * (10 + 20 + 30))
    assert head == Load({"fp32": 6.0}, 24.0, 1, 24.0)
    (_, decode), _ = found["decode"].runs
    assert decode.macs["fp32"] == pytest.approx(50 + 2 * 27)  # 26, 27, 28 positions for three tokens
    assert decode.moved_bytes == pytest.approx(4004 + 16 * 27)
    assert decode.streamed_bytes == pytest.approx(4000 + 16 * 27)


def test_half_precision_halves_the_bytes_of_floats_and_nothing_else() -> None:
    load = stages("fp16")["select"].runs[0][1]
    assert load == Load({"fp16": 20.0}, 40 + 8 + 5, 7, 40 + 8)


def test_int8_weights_stay_int8() -> None:
    graphs = {**GRAPHS, "pick": GraphWork(macs={"linear_int8": 30, "product": 4}, weight_bytes={"int8": 30, "fp32": 8})}
    load = request_stages(10, graphs, SHAPE, None)[1].runs[0][1]
    assert load == Load({"fp32": 4.0, "int8": 30.0}, 38.0, 0, 38.0)


def test_the_shape_of_a_request_is_what_the_model_makes_of_it(tiny_bundle: Path, tmp_path: Path, opened: Model) -> None:
    from edgeprune_profiles.measure.picture import draw_picture

    bundle = Bundle.open(tiny_bundle)
    draw_picture(60, 90).save(tmp_path / "p.png")
    for budget in ("0.2", "1.0"):
        answer = opened.ask("what is this ?", image=tmp_path / "p.png", budget=budget, max_tokens=2, stop=False)
        shape = request_shape(bundle, budget, "what is this ?", 2, (60, 90))
        assert (shape.visual, shape.positions) == (answer.visual_tokens, answer.prompt_tokens)


def test_a_budget_that_the_bundle_lacks_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BudgetError, match="0.3"):
        request_shape(Bundle.open(tiny_bundle), "0.3", "what ?", 2)


def test_memory_is_the_sum_of_its_parts(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    language, stored = manifest.language, manifest.files[manifest.weights_file].bytes
    table = language.embedding.shape[0] * language.embedding.shape[1] * 4
    cache = 2 * sum(language.kv_heads) * language.capacity * language.head_dim * 4
    fit = memory_fit(manifest, GRAPHS, SHAPE, board(kind="cpu"), None)
    assert (fit.weights_bytes, fit.cache_bytes, fit.activations_bytes) == (stored, cache, 30 + 20 + 50 + 4)
    assert fit.application_bytes == stored + cache + 104 + 110 * MIB
    half = memory_fit(manifest, GRAPHS, SHAPE, board(), "fp16")
    assert (half.weights_bytes, half.cache_bytes) == (round((stored - table) / 2) + table, cache // 2)


@pytest.mark.parametrize(
    ("size", "verdict"), [(1000, "fits"), (999, "tight"), (800, "tight"), (799, "does not fit"), (None, "unknown")]
)
def test_it_fits_up_to_four_fifths_of_what_is_there(size: int | None, verdict: str) -> None:
    assert MemoryFit(300, 100, 50, 250, 100, size).verdict == verdict


def test_the_least_that_a_model_takes_is_known_before_it_is_exported() -> None:
    """fp32 halves as fp16, the table of embeddings is stored as it is: (400 + 80 + 4000 + 24) / 2 + 8 + 24; cache 16 a position."""
    graphs = {**GRAPHS, "select": GRAPHS["pick"]}
    fit = memory_at_least(graphs, 100, board(), "fp16")
    assert (fit.weights_bytes, fit.cache_bytes) == (2252 + 8 + 24, 800)
    assert memory_at_least(graphs, 100, board(kind="cpu"), None).weights_bytes == 4504 + 8 + 24
    assert heaviest_graph(GRAPHS) in ("prefill", "decode")


def test_the_part_that_takes_the_most_is_named() -> None:
    assert MemoryFit(300, 100, 50, 250, 100, 1000).largest == "weights"
    assert MemoryFit(300, 900, 50, 250, 100, 1000).largest == "cache"


def test_stages_are_data() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        stages()["tower"].name = "other"  # type: ignore[misc]
