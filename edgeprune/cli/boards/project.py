"""edgeprune project: how long requests would take on boards that are not here, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out
from edgeprune.cli.options import (
    MaxTokens,
    MeasuredRuns,
    PictureSize,
    budget_option,
    compute_option,
    device_option,
    prompt_option,
)
from edgeprune.cli.tables import show_table
from edgeprune_runtime.engines.spec import EnginePrecision

if TYPE_CHECKING:
    from edgeprune_profiles.boards.fit import Efficiency
    from edgeprune_profiles.boards.project import Projection
    from edgeprune_runtime.statistics import Interval


def project(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder written by `edgeprune export`.")] = None,
    device: Annotated[list[str] | None, device_option()] = None,
    budget: Annotated[list[str] | None, budget_option("all of the bundle")] = None,
    report: MeasuredRuns = None,
    compute: Annotated[EnginePrecision | None, compute_option("fp16")] = None,
    prompt: Annotated[str, prompt_option()] = "What is in this picture?",
    size: PictureSize = None,
    max_tokens: MaxTokens = 16,
    backtest: Annotated[
        bool,
        typer.Option(
            "--backtest", help="Project what others published, each board from the others, and print the coverage."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Project time to first token, tokens per second and memory of BUNDLE on each --device, from its graphs' own work.

    Nothing is run: each stage takes its roofline time divided by the efficiency that recorded runs had, with a 95 % interval.
    """
    with errors_as_one_line():
        if backtest:
            if bundle is not None or device:
                raise typer.BadParameter("--backtest is of published times; leave BUNDLE and --device out")
            _backtest(json)
            return
        if bundle is None or not device:
            raise typer.BadParameter("give a BUNDLE and at least one --device, or --backtest")
        from edgeprune_profiles.boards.device_file import load_device
        from edgeprune_profiles.boards.from_runs import ProjectedRequest, budgets_in, project_on, read_runs, samples_of
        from edgeprune_profiles.record.quantities import size_px
        from edgeprune_runtime.bundle import Bundle

        opened = Bundle.open(bundle, verify=False)
        request = ProjectedRequest(prompt, max_tokens, None if size is None else size_px(size, "--size"))
        runs = read_runs(report or [], opened)
        samples = samples_of(runs, request.size)
        found = [
            project_on(load_device(name), opened, label, request, runs, samples, compute)
            for name in device
            for label in budgets_in(opened, budget or [])
        ]
        if json:
            emit({"bundle": str(bundle), "basis": "projected", "projections": [as_data(each) for each in found]})
        else:
            _show(found)


def as_data(found: Projection) -> dict[str, object]:
    """A projection for --json: names and numbers, nothing of the device file repeated."""
    return {
        "device": found.device.name,
        "budget": found.shape.budget,
        "method": found.shape.method,
        "precision": found.precision,
        "visual_tokens": found.shape.visual,
        "positions": found.shape.positions,
        "ttft_s": found.ttft_s,
        "tokens_per_s": found.tokens_per_s,
        "energy_at_most_j": found.energy_j,
        "preprocess_s": found.preprocess_s,
        "stages": found.stages,
        "memory": {"parts": found.memory, "verdict": found.memory.verdict},
        "basis": found.basis,
        "notes": found.notes,
    }


def seconds(found: Interval) -> str:
    from edgeprune_profiles.report import units

    return f"{units.seconds(found.point)} [{units.seconds(found.low)}, {units.seconds(found.high)}]"


def numbers(found: Interval | Efficiency | None) -> str:
    from edgeprune_profiles.report import units

    if found is None:
        return units.UNKNOWN
    return f"{units.rate(found.point)} [{units.rate(found.low)}, {units.rate(found.high)}]"


def _show(found: list[Projection]) -> None:
    from edgeprune_profiles.report import units

    head = ["device", "budget", "tokens", "TTFT", "tokens/s", "J at most", "memory", "", "from"]
    rows = [
        [
            each.device.name,
            each.shape.budget,
            str(each.shape.visual),
            seconds(each.ttft_s),
            numbers(each.tokens_per_s),
            numbers(each.energy_j),
            units.size(each.memory.application_bytes),
            each.memory.verdict,
            each.basis,
        ]
        for each in found
    ]
    show_table("Projected, not measured (95 % intervals)", head, rows, ["device", "budget", "", "from"])
    head = ["device", "budget", "stage", "bound by", "time", "efficiency", "from"]
    rows = [
        [
            each.device.name,
            each.shape.budget,
            s.stage,
            s.bound,
            seconds(s.time_s),
            numbers(s.efficiency),
            _from(s.efficiency),
        ]
        for each in found
        for s in each.stages
    ]
    show_table("Stages", head, rows, ["device", "budget", "stage", "bound by", "from"])
    for note in dict.fromkeys(f"{each.device.name}: {note}" for each in found for note in each.notes):
        out.print(f"note: {note}", highlight=False, markup=False)


def _from(efficiency: Efficiency) -> str:
    what = {"this model here": "runs", "other boards": "boards"}.get(efficiency.basis, "models")
    return f"{efficiency.basis}, {efficiency.n} {what}"


def _backtest(json: bool) -> None:
    from edgeprune_profiles.boards.backtest import coverage, leave_one_device_out
    from edgeprune_profiles.boards.published import published

    trials = leave_one_device_out(published().rows)
    parts = {"all": trials, **{bound: tuple(t for t in trials if t.bound == bound) for bound in ("compute", "memory")}}
    found = {name: coverage(part) for name, part in parts.items()}
    if json:
        emit({"trials": trials, "coverage": found})
        return
    head = ["board left out", "model", "stage", "projected", "published", "inside"]
    rows = [
        [t.left_out, t.name, t.stage, seconds(t.projected_s), f"{t.measured_s:.4g} s", "yes" if t.inside else "no"]
        for t in trials
    ]
    show_table("Leave one board out, published times", head, rows, ["board left out", "model", "stage", "inside"])
    for name, one in found.items():
        out.print(
            f"{name}: {one.inside} of {one.n} inside the 95 % interval ({one.share:.0%}); the middle is off by a factor of "
            f"{one.typical_factor:.2f}, the interval reaches a factor of {one.typical_width:.1f} either way",
            highlight=False,
        )
