"""edgeprune project: how long requests would take on boards that are not here, with an interval."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.boards.subject import model_argument, subject_of
from edgeprune.cli.console import Json, emit, errors_as_one_line, say
from edgeprune.cli.options import (
    MaxTokens,
    MeasuredRuns,
    PictureSize,
    budget_option,
    compute_option,
    device_option,
    prompt_option,
)
from edgeprune.cli.tables import Column, show_table
from edgeprune_runtime.engines.spec import EnginePrecision

if TYPE_CHECKING:
    from edgeprune_profiles.boards.fit import Efficiency
    from edgeprune_profiles.boards.project import Projection
    from edgeprune_runtime.statistics import Interval


def project(
    model: Annotated[str | None, model_argument()] = None,
    device: Annotated[list[str] | None, device_option()] = None,
    budget: Annotated[list[str] | None, budget_option("all of the bundle, else 0.1, 0.2, 0.5 and 1.0")] = None,
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
    """Project time to first token, tokens per second and memory of MODEL on each --device.

    Nothing is run: each stage takes its roofline time divided by the efficiency that recorded runs had, with a 95 % interval.
    """
    with errors_as_one_line():
        if backtest:
            if model is not None or device:
                raise typer.BadParameter("--backtest is of published times; leave MODEL and --device out")
            _backtest(json)
            return
        if model is None or not device:
            raise typer.BadParameter("give a MODEL and at least one --device, or --backtest")
        from edgeprune_profiles.boards.device_file import load_device
        from edgeprune_profiles.boards.from_runs import project_model_on, read_runs, samples_of
        from edgeprune_profiles.boards.model import ProjectedRequest
        from edgeprune_profiles.record.quantities import size_px

        request = ProjectedRequest(prompt, max_tokens, None if size is None else size_px(size, "--size"))
        subject = subject_of(model, budget or [], request)
        runs = read_runs(report or [], subject.bundle)
        samples = samples_of(runs, request.size)
        found = [
            project_model_on(load_device(name), subject.model, label, runs, samples, compute)
            for name in device
            for label in subject.budgets
        ]
        if json:
            emit({"bundle": model, "basis": "projected", "projections": [as_data(each) for each in found]})
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


def time_scale(points: Iterable[float]) -> tuple[float, str]:
    """(factor, unit) in which all times of a column show three digits: milliseconds where one is below a tenth of a second."""
    return (1e3, "ms") if min(points, default=1.0) < 0.1 else (1.0, "s")


def ends(found: Interval | Efficiency | None, scale: float = 1.0) -> str:
    """Both ends of an interval, `0.12-1.84`."""
    from edgeprune_profiles.report import units

    return "" if found is None else f"{units.rate(found.low * scale)}-{units.rate(found.high * scale)}"


def _show(found: list[Projection]) -> None:
    from edgeprune_profiles.report import units

    scale, unit = time_scale(each.ttft_s.point for each in found)
    rows = [
        [
            each.device.name,
            each.shape.budget,
            str(each.shape.visual),
            units.rate(each.ttft_s.point * scale),
            ends(each.ttft_s, scale),
            units.rate(each.tokens_per_s.point),
            ends(each.tokens_per_s),
            "?" if each.energy_j is None else units.rate(each.energy_j.high),
            f"{(each.memory.application_bytes + each.memory.system_bytes) / 2**30:.1f}"
            + (f"/{each.memory.size_bytes / 2**30:.3g}" if each.memory.size_bytes else "/?"),
            each.memory.verdict,
            each.basis,
        ]
        for each in found
    ]
    columns = [
        Column("board", left=True),
        Column("budget"),
        Column("tokens", rank=3),
        Column(f"TTFT {unit}"),
        Column("from-to", rank=1),
        Column("tok/s"),
        Column("from-to", rank=4),
        Column("J at most", rank=6),
        Column("GiB", rank=2),
        Column("memory", left=True),
        Column("learned from", rank=5, left=True),
    ]
    show_table("Projected, not measured (95 % intervals)", columns, rows)
    rows = [
        [
            each.device.name,
            each.shape.budget,
            s.stage,
            units.rate(s.time_s.point * 1e3),
            ends(s.time_s, 1e3),
            s.bound,
            f"{s.efficiency.point:.2f}",
            ends(s.efficiency),
            _from(s.efficiency),
        ]
        for each in found
        for s in each.stages
    ]
    columns = [
        Column("board", left=True),
        Column("budget"),
        Column("stage", left=True),
        Column("ms"),
        Column("from-to", rank=1),
        Column("bound by", rank=2, left=True),
        Column("efficiency", rank=3),
        Column("from-to", rank=5),
        Column("learned from", rank=4, left=True),
    ]
    show_table("Stages", columns, rows)
    bases = {each.device.name: each.basis for each in found}
    say("learned from runs of: " + "; ".join(f"{name}: {basis}" for name, basis in bases.items()), style="dim")
    for each in found:
        if each.memory.verdict == "does not fit":
            say(
                f"{each.device.name} does not hold it at budget {each.shape.budget}: most of the memory is taken by "
                f"{each.memory.largest}; {each.limits['ttft']} takes most of the time to the first token"
            )
    notes: dict[str, list[str]] = {}
    for each in found:
        for note in each.notes:
            names = notes.setdefault(note, [])
            if each.device.name not in names:
                names.append(each.device.name)
    for note, names in notes.items():
        say(f"note: {', '.join(names)}: {note}", indent="    ")


def _from(efficiency: Efficiency) -> str:
    what = {"this model here": "runs", "other boards": "boards"}.get(efficiency.basis, "models")
    return f"{efficiency.basis}, {efficiency.n} {what}"


def _backtest(json: bool) -> None:
    from edgeprune_profiles.boards.backtest import coverage, leave_one_device_out
    from edgeprune_profiles.boards.published import published
    from edgeprune_profiles.report import units

    trials = leave_one_device_out(published().rows)
    parts = {"all": trials, **{bound: tuple(t for t in trials if t.bound == bound) for bound in ("compute", "memory")}}
    found = {name: coverage(part) for name, part in parts.items()}
    if json:
        emit({"trials": trials, "coverage": found})
        return
    rows = [
        [
            t.left_out,
            t.stage,
            units.rate(t.projected_s.point * 1e3),
            ends(t.projected_s, 1e3),
            units.rate(t.measured_s * 1e3),
            "yes" if t.inside else "no",
            t.name,
        ]
        for t in trials
    ]
    columns = [
        Column("board left out", left=True),
        Column("stage", left=True),
        Column("projected ms"),
        Column("from-to", rank=1),
        Column("published ms"),
        Column("inside", left=True),
        Column("model", rank=2, left=True, wraps=True),
    ]
    show_table("Leave one board out, published times", columns, rows)
    for name, one in found.items():
        say(
            f"{name}: {one.inside} of {one.n} inside the 95 % interval ({one.share:.0%}); the middle is off by a factor of "
            f"{one.typical_factor:.2f}, the interval reaches a factor of {one.typical_width:.1f} either way"
        )
