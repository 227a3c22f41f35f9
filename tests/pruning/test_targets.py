"""Targets as the user writes them, and refusals that show how to write them."""

from __future__ import annotations

import pytest

from edgeprune.errors import PlanError
from edgeprune.structure.plan import PARTS
from edgeprune.structure.targets import PruneTarget, target_from_text, targets_from_texts


@pytest.mark.parametrize(
    ("text", "measure", "value"),
    [
        ("params=0.7", "params", 0.7),
        ("macs=1", "macs", 1),
        ("latency=.5", "latency", 0.5),
        ("energy=0.7", "energy", 0.7),
        ("params=1e-3", "params", 0.001),
        ("memory=1024", "memory", 1024),
        ("memory=1024B", "memory", 1024),
        ("memory=3KB", "memory", 3000),
        ("memory=500MB", "memory", 500_000_000),
        ("memory=2GB", "memory", 2_000_000_000),
        ("memory=1KiB", "memory", 1024),
        ("memory=1.5MiB", "memory", 1.5 * 2**20),
        ("memory=2 GiB", "memory", 2**31),
        ("memory=.5GiB", "memory", 2**29),
    ],
)
def test_a_target_is_a_share_or_a_size(text: str, measure: str, value: float) -> None:
    assert target_from_text(text) == PruneTarget(measure, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "share", "size=0.7", "Params=0.7", "0.7", "=0.7", "param=0.7", "tower.params=0.7"]
)
def test_an_unknown_measure_is_refused_with_the_five_there_are(text: str) -> None:
    with pytest.raises(PlanError, match=r"params=0\.7, macs=0\.7, latency=0\.7, energy=0\.7 or memory=2GiB"):
        target_from_text(text)


@pytest.mark.parametrize("value", ["", "0", "-0.5", "1.01", "70%", "70", "nan", "inf", "-inf", "0.7x", "0,7", "2GiB"])
@pytest.mark.parametrize("measure", ["params", "macs", "latency", "energy"])
def test_a_share_outside_of_0_to_1_is_refused_with_an_example(measure: str, value: str) -> None:
    with pytest.raises(PlanError, match=rf"{measure}=.*not a share.*{measure}=0\.7"):
        target_from_text(f"{measure}={value}")


@pytest.mark.parametrize(
    "value", ["", "0", "0GiB", "-1MB", "1.2.3MB", "2gib", "2TB", "GiB", ".", ".MB", "..", "1e9", "nan"]
)
def test_a_size_that_is_none_is_refused_with_examples(value: str) -> None:
    with pytest.raises(PlanError, match="not a size; write for example memory=2GiB or memory=500MB"):
        target_from_text(f"memory={value}")


def test_a_target_without_a_part_is_for_every_part() -> None:
    share = PruneTarget("params", 0.7)
    assert targets_from_texts(["params=0.7"], PARTS) == {"tower": share, "language": share}
    assert targets_from_texts(["params=0.7"], ("tower",)) == {"tower": share}
    assert targets_from_texts([], PARTS) == {}


def test_every_part_may_have_its_own() -> None:
    found = targets_from_texts(["tower.macs=0.5", "language.memory=1.5MiB"], PARTS)
    assert found == {"tower": PruneTarget("macs", 0.5), "language": PruneTarget("memory", 1.5 * 2**20)}
    assert targets_from_texts(["language.params=.5"], PARTS) == {"language": PruneTarget("params", 0.5)}


@pytest.mark.parametrize(
    "texts", [["tower.params=0.7", "tower.macs=0.7"], ["params=0.7", "tower.macs=0.7"], ["macs=0.7", "macs=0.7"]]
)
def test_two_targets_of_one_part_are_refused(texts: list[str]) -> None:
    with pytest.raises(PlanError, match="the tower has two targets, .*=0.7 and macs=0.7"):
        targets_from_texts(texts, PARTS)


def test_a_part_that_is_none_or_not_there_is_refused() -> None:
    with pytest.raises(PlanError, match="names no part.*tower.params"):
        targets_from_texts(["vision.params=0.7"], PARTS)
    with pytest.raises(PlanError, match="for the language, which this model does not have; it has tower"):
        targets_from_texts(["language.params=0.7"], ("tower",))
    with pytest.raises(PlanError, match="not known"):
        targets_from_texts(["tower.size=0.7"], PARTS)


def test_a_label_says_what_was_asked() -> None:
    texts = ("params=0.7", "macs=0.25", "latency=1", "memory=1.5MiB")
    assert tuple(target_from_text(text).label for text in texts) == texts
    assert all(target_from_text(target_from_text(text).label) == target_from_text(text) for text in texts)
