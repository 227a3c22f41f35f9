"""A machine that was busy with other work is said to be, in every form of a report; a quiet one is not mentioned."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgeprune_profiles import render_html, render_markdown
from edgeprune_profiles.measure.stages import Case, profile
from edgeprune_profiles.record.profile import BundleRef, Report, load_report
from edgeprune_profiles.record.saving import save_report
from edgeprune_profiles.report.busy import busy_sentence, use_text
from edgeprune_profiles.report.compare import compare
from edgeprune_profiles.report.summary import summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.meters import MachineLook, MachineUse
from edgeprune_runtime.meters.clocks import BoardState
from tests.profiles.conftest import ENVIRONMENT, FIFTH, FULL, FakeRunner

QUIET = MachineUse(10.0, 4, 0.05, 0.0, 0.0, 0.3, None)


def busy(**changes: Any) -> MachineUse:
    return msgspec.convert(msgspec.to_builtins(QUIET) | changes, MachineUse)


def test_a_quiet_machine_needs_no_sentence(report: Report) -> None:
    quiet = msgspec.structs.replace(report, use_before=QUIET, use_during=QUIET)
    assert busy_sentence(quiet) == busy_sentence(report) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"other_cores": 1.2}, "other programs kept 1.2 of 4 cores busy"),
        ({"other_cores": None, "load": 9.0}, "the load average was 9.0 on 4 cores"),
        ({"stolen_share": 0.07}, "the host of this virtual machine took 7"),
        ({"held_back_s": 2.5}, "held threads back for 2.50"),
        ({"flags": ["the clock of cpu fell from 3000 to 2000 MHz during the run"]}, "the clock of cpu fell"),
    ],
)
def test_every_sign_is_said_in_the_result_and_the_page(report: Report, changes: dict[str, Any], said: str) -> None:
    disturbed = msgspec.structs.replace(report, use_before=QUIET, use_during=busy(**changes))
    (sentence,) = [s for s in verdict(summarise(disturbed)) if "not quiet" in s]
    assert "during the profile" in sentence and "before" not in sentence and said in sentence
    assert said in render_html(disturbed) and said in render_markdown(disturbed)


def test_two_profiles_of_which_one_was_disturbed_differ(report: Report) -> None:
    disturbed = msgspec.structs.replace(report, use_during=busy(other_cores=1.2))
    (told,) = [s for s in compare(report, disturbed).differs if "quiet" in s]
    assert told.startswith(
        "A: the machine was quiet; B: The machine was not quiet: during the profile, other programs kept 1.2"
    )
    assert not [s for s in compare(disturbed, disturbed).differs if "quiet" in s]


def test_a_gpu_is_busy_for_others_only_while_this_program_rests(report: Report) -> None:
    working = busy(gpu_load=0.6)
    assert busy_sentence(msgspec.structs.replace(report, use_during=working)) == ""
    told = busy_sentence(msgspec.structs.replace(report, use_before=working))
    assert "before the profile, other programs kept the GPU busy for 60" in told


def test_what_is_unknown_is_said_as_unknown() -> None:
    nothing = MachineUse(1.0, None, None, None, None, None, None)
    assert use_text(None) == "unknown"
    assert use_text(nothing).count("unknown") == 4


def test_a_profile_looks_before_the_first_round_and_after_each(tmp_path: Any) -> None:
    seen: list[float] = []

    def look() -> MachineLook:
        seen.append(float(len(seen)))
        return MachineLook(BoardState(seen[-1], {}, {}), 2, 1.5 * seen[-1], 0.0, 0.0, None, 0.4)

    made = profile(
        FakeRunner(), [FULL, FIFTH], [Case(tmp_path / "a.png", "what")], bundle=BundleRef("b", "0" * 64),
        environment=ENVIRONMENT, command="x", repetitions=3, use_before=QUIET, look=look,
    )  # fmt: skip
    assert len(seen) == 4
    assert made.use_during is not None and made.use_during.other_cores == 1.5
    save_report(made, tmp_path / "r.json")
    assert load_report(tmp_path / "r.json").use_before == QUIET
