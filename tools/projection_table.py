"""Projection of a processor's profile against measurement: four budgets, two precisions, two models; writes the page of results.

This machine's processor is measured, the reference model and a made one of another size are exported and profiled, and every budget is
projected twice: from the model's other budgets, and from the other model alone. Published times are tested as well, each board from the
others. Kill it and start it again: bundles and runs that are there are kept.

    python tools/projection_table.py --work build/projection --out docs/measurements/projection.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "tools" / "reference_vlm" / "checkpoint"
sys.path.insert(0, str(ROOT))

from edgeprune_profiles import Report, load_report
from edgeprune_profiles.boards.backtest import Coverage, Trial, coverage, leave_one_device_out
from edgeprune_profiles.boards.device import Device
from edgeprune_profiles.boards.device_file import load_device
from edgeprune_profiles.boards.fit import EfficiencySample
from edgeprune_profiles.boards.memory_fit import MIB, RUNTIME, memory_fit
from edgeprune_profiles.boards.project import ProjectionTarget, target
from edgeprune_profiles.boards.published import published
from edgeprune_profiles.measure.runs import own_trials, run_samples, run_shape
from edgeprune_profiles.report import units
from edgeprune_runtime.bundle import Bundle
from tools.checkpoints.recipe import SIZES, Recipe, Size
from tools.checkpoints.write import make_checkpoint

BUDGETS = ("0.1", "0.2", "0.4", "1.0")
PRECISIONS = ("fp32", "int8")
#: 256 tokens per tile, eight blocks each side: ten times the arithmetic of the reference model per picture.
MADE = Size(16, 14, 384, 6, 1536, 8, 512, 8, 2, 1536, 8, 2000, ((1, 2), (2, 1), (2, 2)))
PAGE = """# Projection against measurement

Made by `{command}` on {chip}, one thread, {runs} rounds per bundle.
Times are processor seconds, which other work on the machine hardly disturbs and which an idle one shows on its clock; preprocessing is on
neither side. How a projection is made: [projection.md](../projection.md).

The processor as `edgeprune devices --measure-cpu` found it: {fp32} GFLOP/s in float32, {int8} Gop/s in int8, {bandwidth} GB/s,
{launch} per graph node.

## Four budgets, two precisions: learned from the model's other budgets

{own_table}

{own_words}

## The same, learned from another model only

The reference model from a made one (random weights, ten times the arithmetic) and the other way round: what a projection is worth for a
model that never ran here.

{other_table}

{other_words}

## Published times, each board from the others

{published_table}

{published_words}

The misses are decode steps of HiRED's own script on the P40: eager PyTorch, whose host time per token no roofline holds; nothing is
learned from those rows.

## Memory of the process, predicted and read

{memory_table}

Predicted: weights, cache, activations and an assumed runtime of {runtime} MiB. Read: the highest resident size while one question was
answered in a process of its own, which counts float weights once for every graph that maps them (prefill and decode map the same).
"""


@dataclass(frozen=True)
class Recorded:
    """A bundle, its counts and a run of it here."""

    bundle: Bundle
    report: Report
    where: ProjectionTarget

    @property
    def samples(self) -> tuple[EfficiencySample, ...]:
        return run_samples(self.bundle, self.report, self.where)


def edgeprune(*words: object) -> None:
    print("$ edgeprune", *words, file=sys.stderr, flush=True)
    command = [sys.executable, "-c", "from edgeprune.cli import main; main()", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def recorded(name: str, checkpoint: Path, precision: str, work: Path, runs: int, device: Device) -> Recorded:
    """Export and profile what is not there yet."""
    folder, report = work / f"{name}-{precision}.bundle", work / f"{name}-{precision}.json"
    if not folder.exists():
        budgets = [word for budget in BUDGETS for word in ("--budget", budget)]
        edgeprune(
            "export", checkpoint, *budgets, "--weights", precision, "--no-controls", "--no-parity", "--out", folder
        )
    if not report.exists():
        edgeprune("profile", folder, "--runs", runs, "--threads", 1, "--max-tokens", 16, "--out", report)
    bundle = Bundle.open(folder, verify=False)
    return Recorded(bundle, load_report(report), target(device, precision))


def from_other_budgets(one: Recorded) -> tuple[Trial, ...]:
    return own_trials(one.bundle, one.report, one.where, lambda name: [s for s in one.samples if s.run != name])


def from_other_model(one: Recorded, other: Recorded) -> tuple[Trial, ...]:
    return own_trials(one.bundle, one.report, one.where, lambda name: other.samples)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def trial_table(trials: tuple[Trial, ...], truth: str = "measured") -> str:
    rows = [
        [
            f"{t.left_out}: {t.name}" if truth == "published" else t.name.replace(REFERENCE.name, "reference"),
            t.stage,
            f"{units.seconds(t.projected_s.point)} [{units.seconds(t.projected_s.low)}, {units.seconds(t.projected_s.high)}]",
            units.seconds(t.measured_s),
            "yes" if t.inside else "**no**",
        ]
        for t in trials
    ]
    return table(["", "time", "projected, 95 %", truth, "inside"], rows)


def words(found: Coverage) -> str:
    return (
        f"{found.inside} of {found.n} inside; the middle is off by a factor of {found.typical_factor:.2f}, "
        f"the interval reaches a factor of {found.typical_width:.2f} either way (geometric means)."
    )


def memory_rows(every: list[Recorded]) -> list[list[str]]:
    rows = []
    for one in every:
        for result in one.report.budgets:
            shape = run_shape(one.bundle, one.report, result, None)
            fit = memory_fit(
                one.bundle.manifest, one.bundle.manifest.work, shape, one.where.device, one.where.precision
            )
            read = None if result.memory is None else result.memory.peak_bytes
            name = f"{one.bundle.manifest.name.replace(REFERENCE.name, 'reference')}, {one.bundle.manifest.precision}, {result.budget.name}"
            rows.append([name, units.size(fit.application_bytes), units.size(read)])
    return rows


def figure(device: Device, name: str) -> float:
    return float(next(found.value for each, found in device.figures() if each == name))


def main() -> None:
    """Measure, profile, project, write."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--work", type=Path, required=True, help="folder for bundles and runs")
    line.add_argument("--out", type=Path, help="page to write; stdout by default")
    line.add_argument("--runs", type=int, default=12, help="rounds per bundle")
    given = line.parse_args()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    profile = work / "this-cpu.toml"
    if not profile.exists():
        edgeprune("devices", "this-cpu", "--measure-cpu", "--cpu-threads", 1, "--out", profile)
    device = load_device(str(profile))
    SIZES["projection"] = MADE
    if not (work / "made").exists():
        make_checkpoint(work / "made", Recipe(size="projection"))
    checkpoints = {"reference": REFERENCE, "made": work / "made"}
    found = {
        (name, precision): recorded(name, path, precision, work, given.runs, device)
        for name, path in checkpoints.items()
        for precision in PRECISIONS
    }
    own = tuple(t for one in found.values() for t in from_other_budgets(one))
    opposite = {"reference": "made", "made": "reference"}
    other = tuple(t for (name, p), one in found.items() for t in from_other_model(one, found[opposite[name], p]))
    public = leave_one_device_out(published().rows)
    page = PAGE.format(
        command="python tools/projection_table.py --work build/projection --out docs/measurements/projection.md",
        runs=given.runs,
        chip=device.title.partition(",")[0],
        fp32=units.rate(figure(device, "peak fp32") / 1e9),
        int8=units.rate(figure(device, "peak int8") / 1e9),
        bandwidth=units.rate(figure(device, "memory bandwidth") / 1e9),
        launch=units.seconds(figure(device, "launch overhead")),
        own_table=trial_table(own),
        own_words=words(coverage(own)),
        other_table=trial_table(other),
        other_words=words(coverage(other)),
        published_table=trial_table(public, "published"),
        published_words=words(coverage(public)),
        memory_table=table(["", "predicted", "read"], memory_rows(list(found.values()))),
        runtime=RUNTIME["cpu"] // MIB,
    )
    if given.out is None:
        print(page)
    else:
        given.out.write_text(page, encoding="utf-8")
        print(f"{given.out} written", file=sys.stderr)


if __name__ == "__main__":
    main()
