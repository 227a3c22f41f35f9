"""What `project` and `recommend` share: a bundle with its counts, and runs to learn efficiencies from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgeprune_profiles.boards.device import Device
    from edgeprune_profiles.boards.fit import EfficiencySample
    from edgeprune_profiles.boards.memory_fit import MemoryFit
    from edgeprune_profiles.boards.project import Projection
    from edgeprune_profiles.measure.work import GraphWork, RequestShape
    from edgeprune_profiles.record.profile import Report
    from edgeprune_runtime.bundle import Bundle


Budgets = Annotated[
    list[str] | None, typer.Option("--budget", "-b", help="Repeat for several. [default: all of the bundle]")
]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="The question.")]
Size = Annotated[
    str | None, typer.Option(help="WIDTHxHEIGHT of the picture. [default: one that fills the largest tile grid]")
]


@dataclass(frozen=True)
class ProjectedBundle:
    """A bundle and what each of its graphs does in one run."""

    bundle: Bundle
    graphs: dict[str, GraphWork]


@dataclass(frozen=True)
class MeasuredRun:
    """A report and the board it was made on; `own`: of the bundle that is being projected."""

    device: Device
    report: Report
    opened: ProjectedBundle
    own: bool


@dataclass(frozen=True)
class Asked:
    """The request to project: one question about one picture."""

    question: str
    answer: int
    size: tuple[int, int] | None

    def shape(self, opened: ProjectedBundle, budget: str) -> RequestShape:
        from edgeprune_profiles.measure.work import request_shape

        return request_shape(opened.bundle, budget, self.question, self.answer, self.size)


def open_counted(path: Path) -> ProjectedBundle:
    """Raises MissingExtra where onnx and onnx_ir, which read the graphs, are not installed."""
    from importlib.util import find_spec

    from edgeprune_profiles.measure.work import GraphWork
    from edgeprune_runtime.bundle import Bundle
    from edgeprune_runtime.errors import MissingExtra

    missing = [name for name in ("onnx", "onnx_ir") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"counting the work of a bundle needs {' and '.join(missing)}, not installed here; install with `pip install edgeprune[export]`, "
            "or do it on another machine: nothing is run"
        )
    from edgeprune_export.bundle.roofline_counts import count_bundle

    bundle = Bundle.open(path, verify=False)
    return ProjectedBundle(bundle, {name: GraphWork(**asdict(count)) for name, count in count_bundle(path).items()})


def read_runs(texts: list[str], opened: ProjectedBundle) -> tuple[MeasuredRun, ...]:
    """Runs written as DEVICE,REPORT.json or DEVICE,REPORT.json,BUNDLE."""
    from edgeprune_profiles import load_report
    from edgeprune_profiles.boards.device_file import load_device
    from edgeprune_runtime.errors import MeasurementError

    runs = []
    for text in texts:
        parts = text.split(",")
        if len(parts) not in (2, 3):
            raise MeasurementError(f"--report is {text!r}; expected DEVICE,REPORT.json or DEVICE,REPORT.json,BUNDLE")
        other = opened if len(parts) == 2 else open_counted(Path(parts[2]))
        device, report = load_device(parts[0]), load_report(Path(parts[1]))
        _require_made_on(device, report, parts[1])
        runs.append(MeasuredRun(device, report, other, other is opened))
    return tuple(runs)


def _require_made_on(device: Device, report: Report, name: str) -> None:
    """Raises MeasurementError for a report that cannot be of this device: what a report says of itself is held against it."""
    from edgeprune_runtime.errors import MeasurementError

    ran_on = "cpu" if report.backend is None else report.backend.device
    chip = report.environment.cpu_model
    if (device.kind == "cpu") != (ran_on == "cpu"):
        where = f"on the processor ({chip or 'unknown'})" if ran_on == "cpu" else "on a GPU"
        raise MeasurementError(
            f"{name} was recorded {where}, which is not what {device.name} computes with; name the device that it was recorded on "
            "(a profile of this processor: `edgeprune devices NAME --measure-cpu`)"
        )


def samples_of(runs: tuple[MeasuredRun, ...], size: tuple[int, int] | None) -> tuple[EfficiencySample, ...]:
    """Efficiencies of the runs, and of what others published."""
    from edgeprune_profiles.boards.project import target
    from edgeprune_profiles.boards.published import published_samples
    from edgeprune_profiles.measure.runs import run_samples

    found: tuple[EfficiencySample, ...] = published_samples()
    for run in runs:
        where = target(run.device, run.opened.bundle.manifest.precision)
        found += run_samples(run.opened.bundle, run.opened.graphs, run.report, where, size)
    return found


def project_on(
    device: Device,
    opened: ProjectedBundle,
    budget: str,
    asked: Asked,
    runs: tuple[MeasuredRun, ...],
    samples: tuple[EfficiencySample, ...],
    precision: str | None,
) -> Projection:
    from edgeprune_profiles.boards.project import project, target
    from edgeprune_profiles.measure.runs import run_preprocess_s

    manifest = opened.bundle.manifest
    own = [run for run in runs if run.device.name == device.name and run.own]
    preprocess = run_preprocess_s(own[0].report, device) if own else None
    where = target(device, manifest.precision, precision)
    return project(manifest, opened.graphs, asked.shape(opened, budget), where, samples, preprocess)


def memory_of(run: MeasuredRun, shape: RequestShape) -> MemoryFit:
    from edgeprune_profiles.boards.memory_fit import memory_fit
    from edgeprune_profiles.boards.project import target

    manifest = run.opened.bundle.manifest
    return memory_fit(manifest, run.opened.graphs, shape, run.device, target(run.device, manifest.precision).precision)


def budgets_in(opened: ProjectedBundle, chosen: list[str]) -> tuple[str, ...]:
    """The bundle's budgets, or those chosen among them."""
    from edgeprune_runtime import budgets

    manifest = opened.bundle.manifest
    return tuple(dict.fromkeys(budgets.budget_label(manifest, text) for text in chosen)) or budgets.budgets(manifest)
