"""Joules as a price: read from a meter over windows of runs, fitted like seconds, a target like any other, refused without a sensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from edgeprune.errors import PlanError
from edgeprune.models import open_checkpoint
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import PruneTarget
from edgeprune_export.bundle.progress import silent
from edgeprune_export.onnx.graph import Graph
from edgeprune_export.pruning.options import PruneOptions
from edgeprune_export.pruning.prices import energy, timed_blocks
from edgeprune_export.pruning.prices.terms import Terms, price_of
from edgeprune_export.pruning.prices.timed_blocks import Stack, price_from
from edgeprune_export.pruning.prune import prune
from edgeprune_runtime.meters import EnergyMeter, EnergyReading
from tests.checkpoints import tiny_checkpoint
from tests.commands import complaint, invoke
from tests.pruning.made import pictures

STACKS = np.array([[1, 1, 8, 512], [1, 2, 16, 1024], [1, 1, 4, 256], [1, 1, 4, 512], [1, 1, 8, 256]], float)
WHY = "/sys/class/powercap does not exist: RAPL counters need Linux on a bare x86 machine"


@dataclass(frozen=True)
class FakeWindow:
    board: Board
    joules: float
    seconds: float

    def reading(self) -> EnergyReading:
        spent = None if self.board.lost else self.board.joules - self.joules
        source = "unknown: the rail stopped answering" if self.board.lost else "made-up"
        return EnergyReading(source, spent, self.board.seconds - self.seconds)


@dataclass
class Board:
    """A machine whose clock and energy counter move only when a made graph runs; its own energy meter."""

    name: str = "energy"
    joules: float = 0.0
    seconds: float = 0.0
    runs: int = 0
    lost: bool = False
    why: str | None = None

    def why_unavailable(self) -> str | None:
        return self.why

    @contextmanager
    def window(self) -> Iterator[FakeWindow]:
        yield FakeWindow(self, self.joules, self.seconds)

    def clock(self) -> float:
        return self.seconds

    def graph(self, joules: float, seconds: float = 2.0) -> Callable[[], None]:
        def run() -> None:
            self.joules += joules
            self.seconds += seconds
            self.runs += 1

        return run

    def measured(self, *stacks: Stack) -> list[float]:
        return energy.joules(stacks, silent, "made graphs", self.clock)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board()
    monkeypatch.setattr(energy, "meter", {"energy": board}.__getitem__)
    return board


def test_a_price_is_found_again_from_joules_that_follow_it(board: Board) -> None:
    costs = STACKS @ [3e-3, 2e-3, 5e-4, 1e-5]
    found = price_from(STACKS, np.array(board.measured(*([(board.graph(cost), 1.0)] for cost in costs))))
    assert (found.fixed, found.block, found.group, found.channel) == pytest.approx((3e-3, 2e-3, 5e-4, 1e-5))


def test_a_request_is_the_sum_of_its_graphs_as_often_as_it_runs_them(board: Board) -> None:
    assert board.measured([(board.graph(0.5), 2.0), (board.graph(0.01), 32.0)]) == [pytest.approx(1.32)]


def test_a_short_graph_runs_until_two_seconds_are_over_and_a_long_one_once(board: Board) -> None:
    assert board.measured([(board.graph(0.25, seconds=0.25), 1.0)]) == [pytest.approx(0.25)]
    assert board.runs == 4 * 8  # four windows of eight runs
    board.runs = 0
    board.measured([(board.graph(0.25, seconds=7.0), 1.0)])
    assert board.runs == 4


def test_the_first_window_and_one_busy_moment_do_not_count(board: Board) -> None:
    spent = iter((9.0, 1.0, 5.0, 1.0))

    def run() -> None:
        board.joules += next(spent)
        board.seconds += 2

    assert board.measured([(run, 1.0)]) == [pytest.approx(1.0)]


def test_a_sensor_that_is_lost_midway_is_an_error_and_no_zero(board: Board) -> None:
    board.lost = True
    with pytest.raises(PlanError, match="could not be read .*the rail stopped answering.*ask for latency"):
        board.measured([(board.graph(1.0), 1.0)])


def test_a_rapl_counter_is_read_through_the_meter_of_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "10000000"), ("energy_uj", "9000000")):
        (domain / name).write_text(text, encoding="utf-8")
    now = iter(range(0, 1000, 7))

    def run() -> None:  # 1.5 J, past the end of the counter's range
        before = int((domain / "energy_uj").read_text())
        (domain / "energy_uj").write_text(str((before + 1_500_000) % 10_000_000))

    monkeypatch.setattr(energy, "meter", lambda name: EnergyMeter(tmp_path))
    assert energy.joules([[(run, 2.0)]], silent, "a made graph", lambda: float(next(now))) == [pytest.approx(3.0)]


def test_the_tower_of_a_machine_that_pays_by_the_weight_costs_as_its_weights_count(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    pays_by_the_weight(board, monkeypatch)
    model = open_checkpoint(tiny_checkpoint()).spec
    terms = Terms("fp32", timed_blocks.PricedRequest(40, 4, 16, 64))
    found, counted = (price_of(measure, model.vision, terms, silent) for measure in ("energy", "params"))
    assert found.block == pytest.approx(1e-6 * counted.block)
    assert found.group == pytest.approx(1e-6 * counted.group)
    assert found.channel == pytest.approx(1e-6 * counted.channel)


@pytest.mark.parametrize("allocation", ["uniform", "global", "module", "slope"])
def test_an_energy_target_is_met_in_predicted_joules(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch, allocation: str
) -> None:
    pays_by_the_weight(board, monkeypatch)
    request = StructureRequest(PruneTarget("energy", 0.8), importance="magnitude", allocation=allocation, align=8)
    options = PruneOptions({"tower": request}, images=pictures(), pictures=1, compensate=False)
    part = prune(tiny_checkpoint(), tmp_path / "out", options).parts["tower"]
    assert part.target == "energy=0.8" and part.before and part.after
    spec = open_checkpoint(tiny_checkpoint()).spec.vision
    terms = Terms("fp32", timed_blocks.PricedRequest(40, 4, 16, 64))
    price = price_of("params", spec, terms, silent)
    step = 1e-6 * max(price.group, 8 * price.channel)
    assert (
        abs(part.after - 0.8 * part.before) <= (1.0001 if allocation == "module" else 0.5001) * step
    )  # module: half a step of either kind


def pays_by_the_weight(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a graph takes a microjoule for each of its weights."""

    def session(root: Path, graph: Graph, precision: str) -> Callable[[], None]:
        stored = [one.dims for one in graph.model().graph.initializer if one.data_location == TensorProto.EXTERNAL]
        return board.graph(1e-6 * sum(math.prod(dims) for dims in stored))

    monkeypatch.setattr(timed_blocks, "block_session", session)
    monkeypatch.setattr(energy, "_WINDOW_S", 0.0)


def test_without_a_sensor_an_energy_target_is_refused_in_the_meters_words_and_leaves_nothing(
    tmp_path: Path, board: Board
) -> None:
    board.why = WHY
    line = complaint(
        "prune", tiny_checkpoint(), "-s", "energy=0.7", "--importance", "magnitude", "--out", tmp_path / "out"
    )
    assert WHY in line and line.endswith("ask for latency=0.7 instead")
    (tmp_path / "r.toml").write_text('[structure.tower]\ntarget = "energy=0.7"\nimportance = "magnitude"\n')
    assert WHY in complaint("forecast", tiny_checkpoint(), "--recipe", tmp_path / "r.toml", "--no-time")
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_what_was_reached_is_said_in_joules(tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    pays_by_the_weight(board, monkeypatch)
    words = ("-s", "tower.energy=0.9", "--importance", "magnitude", "--align", 8, "--out", tmp_path / "out")
    text = " ".join(invoke("prune", tiny_checkpoint(), *words).stdout.split())
    assert "tower: energy=0.9 asked, 0." in text and "mJ (predicted)" in text
