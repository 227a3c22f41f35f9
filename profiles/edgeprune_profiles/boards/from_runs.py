"""A model on boards: projections that learn from measured runs, and the runs themselves, beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune_profiles.boards.device import Device, in_mode
from edgeprune_profiles.boards.device_file import device_names, load_device
from edgeprune_profiles.boards.fit import EfficiencySample
from edgeprune_profiles.boards.memory_fit import MemoryFit
from edgeprune_profiles.boards.model import ProjectedModel, ProjectedRequest, model_of_bundle
from edgeprune_profiles.boards.project import Projection, project, target
from edgeprune_profiles.boards.published import published_samples
from edgeprune_profiles.boards.recommend import BoardOption, measured, projected
from edgeprune_profiles.measure.runs import run_preprocess_s, run_samples
from edgeprune_profiles.record.profile import Report, load_report
from edgeprune_runtime import budgets
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.errors import MeasurementError


@dataclass(frozen=True)
class MeasuredRun:
    """A report and the board it was made on; `own`: of the bundle that is being projected."""

    device: Device
    report: Report
    bundle: Bundle
    own: bool


def read_runs(texts: Sequence[str], bundle: Bundle | None) -> tuple[MeasuredRun, ...]:
    """Runs written as DEVICE,REPORT.json or DEVICE,REPORT.json,BUNDLE; None: there is no bundle, so each must name its own."""
    runs = []
    for text in texts:
        parts = text.split(",")
        if len(parts) not in (2, 3):
            raise MeasurementError(f"--report is {text!r}; expected DEVICE,REPORT.json or DEVICE,REPORT.json,BUNDLE")
        own = len(parts) == 2
        if own and bundle is None:
            raise MeasurementError(
                f"--report {text} does not say of which bundle; expected DEVICE,REPORT.json,BUNDLE where no bundle is projected"
            )
        device, report = load_device(parts[0]), load_report(Path(parts[1]))
        _require_made_on(device, report, parts[1])
        of = bundle if own and bundle is not None else Bundle.open(parts[2], verify=False)
        runs.append(MeasuredRun(device, report, of, own))
    return tuple(runs)


def _require_made_on(device: Device, report: Report, name: str) -> None:
    """Raises MeasurementError for a report that cannot be of this device: what a report says of itself is held against it."""
    ran_on = "cpu" if report.backend is None else report.backend.device
    chip = report.environment.cpu_model
    if (device.kind == "cpu") != (ran_on == "cpu"):
        where = f"on the processor ({chip or 'unknown'})" if ran_on == "cpu" else "on a GPU"
        raise MeasurementError(
            f"{name} was recorded {where}, which is not what {device.name} computes with; name the device that it was recorded on "
            "(a profile of this processor: `edgeprune devices NAME --measure-cpu`)"
        )


def samples_of(runs: Sequence[MeasuredRun], size: tuple[int, int] | None) -> tuple[EfficiencySample, ...]:
    """Efficiencies of the runs, and of what others published."""
    found: tuple[EfficiencySample, ...] = published_samples()
    for run in runs:
        where = target(run.device, run.bundle.manifest.precision)
        found += run_samples(run.bundle, run.report, where, size)
    return found


def budgets_in(bundle: Bundle, chosen: Sequence[str]) -> tuple[str, ...]:
    """The bundle's budgets, or those chosen among them."""
    manifest = bundle.manifest
    return tuple(dict.fromkeys(budgets.budget_label(manifest, text) for text in chosen)) or budgets.budgets(manifest)


def project_on(
    device: Device,
    bundle: Bundle,
    budget: str,
    request: ProjectedRequest,
    runs: Sequence[MeasuredRun],
    samples: Sequence[EfficiencySample],
    precision: str | None = None,
) -> Projection:
    """One budget of a bundle on one board. precision: what a GPU computes floats in; None: its usual one."""
    return project_model_on(device, model_of_bundle(bundle, request), budget, runs, samples, precision)


def project_model_on(
    device: Device,
    model: ProjectedModel,
    budget: str,
    runs: Sequence[MeasuredRun],
    samples: Sequence[EfficiencySample],
    precision: str | None = None,
) -> Projection:
    """The same for any model."""
    own = [run for run in runs if run.device.name == device.name and run.own]
    preprocess = run_preprocess_s(own[0].report, device) if own else None
    return project(model, model.shape(budget), target(device, model.stored, precision), samples, preprocess)


def options_on_boards(
    model: ProjectedModel,
    wanted: Sequence[str],
    names: Sequence[str],
    runs: Sequence[MeasuredRun],
    samples: Sequence[EfficiencySample],
) -> tuple[list[BoardOption], dict[str, str]]:
    """Every board at every budget, measured where there is a run, else projected; and why a board is not among them."""
    found = [
        measured(run.device, result, _memory_of(run, model, result.budget.name))
        for run in runs
        if run.own
        for result in run.report.budgets
        if result.budget.name in wanted
    ]
    left_out: dict[str, str] = {}
    for device in _boards(names, runs):
        try:
            for label in wanted:
                found.append(projected(project_model_on(device, model, label, runs, samples)))
        except MeasurementError as error:
            left_out[device.name] = str(error)
    return found, left_out


def _memory_of(run: MeasuredRun, model: ProjectedModel, budget: str) -> MemoryFit:
    return model.memory(model.shape(budget), run.device, target(run.device, model.stored).precision)


def _boards(names: Sequence[str], runs: Sequence[MeasuredRun]) -> list[Device]:
    """The boards asked for, or all of them in each mode, and those that runs were made on."""
    if names:
        return [load_device(name) for name in names]
    boards = [load_device(name) for name in device_names()]
    modes = [in_mode(board, mode.name) for board in boards for mode in board.power_modes if not mode.of_the_peaks]
    return list({board.name: board for board in (*boards, *modes, *(run.device for run in runs))}.values())
