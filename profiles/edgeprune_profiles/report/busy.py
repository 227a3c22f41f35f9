"""What else the machine did before and during a profile, as sentences: said where it is enough to change the times."""

from __future__ import annotations

from collections.abc import Iterator

from edgeprune_profiles.record.profile import Report
from edgeprune_profiles.report import units
from edgeprune_runtime.meters import MachineUse

OTHER_SHARE = 0.05  # of the processors, kept busy by other programs
STOLEN_SHARE = 0.01
HELD_BACK_SHARE = 0.01
CROWDED = 1.0  # load average for each processor


def busy_sentence(report: Report) -> str:
    """What disturbed the profile; "" where nothing was noticed."""
    found = disturbed(report.use_before, report.use_during, "the profile")
    return (
        found and f"{found} Times are then longer than they could be; budgets took turns, so their ratios suffer less."
    )


def disturbed(before: MachineUse | None, during: MachineUse | None, what: str) -> str:
    """A sentence on what disturbed `what` ("the profile"); "" where nothing was noticed."""
    found = [
        f"{when} {what}, {_list(signs)}"
        for when, use in (("before", before), ("during", during))
        if use and (signs := [*busy_signs(use, resting=when == "before")])
    ]
    return f"The machine was not quiet: {'; '.join(found)}." if found else ""


def busy_signs(use: MachineUse, *, resting: bool) -> Iterator[str]:
    """Each sign that the machine was not this program's alone. `resting`: this program did nothing meanwhile."""
    other, cores = use.other_cores, use.cores
    if other is not None and cores and other > OTHER_SHARE * cores:
        yield f"other programs kept {other:.1f} of {cores} cores busy"
    elif other is None and use.load is not None and cores and use.load > CROWDED * cores:
        yield f"the load average was {use.load:.1f} on {cores} cores"
    if use.stolen_share is not None and use.stolen_share > STOLEN_SHARE:
        yield f"the host of this virtual machine took {units.percent(use.stolen_share, 0)} of the processor time"
    if use.held_back_s is not None and use.held_back_s > HELD_BACK_SHARE * use.seconds:
        yield f"the container's limit held threads back for {units.seconds(use.held_back_s)}"
    if resting and use.gpu_load is not None and use.gpu_load > OTHER_SHARE:
        yield f"other programs kept the GPU busy for {units.percent(use.gpu_load, 0)} of the time"
    yield from use.flags


def use_text(use: MachineUse | None) -> str:
    """The figures, whether they disturb or not."""
    if use is None:
        return units.UNKNOWN
    other = units.UNKNOWN if use.other_cores is None else f"{use.other_cores:.2f} of {units.count(use.cores)} cores"
    throttled = units.percent(use.board.throttled_share if use.board else None, 0)
    return (
        f"other programs {other}, stolen {units.percent(use.stolen_share)}, load {units.rate(use.load)}, "
        f"throttled {throttled}"
    )


def _list(signs: list[str]) -> str:
    return ", ".join(signs[:-1]) + (" and " if len(signs) > 1 else "") + signs[-1]
