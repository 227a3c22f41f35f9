"""What calibration measures of a picture, and what it settles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeprune.plan import MethodPlan
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.readings import TowerOutputs
from tests.tokens.pictures import FEATURE, GARBAGE, LAST, Case, changed, full_case


def cases(seed: int, count: int, garbage: float = GARBAGE) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [full_case(rng, 3 if i % 4 else 4, exact=i % 3 == 0, garbage=garbage) for i in range(count)]


def measured(name: str, outputs: TowerOutputs, **settings: float) -> dict[str, float]:
    calibration = METHODS[name].calibration
    assert calibration is not None
    return calibration.measure(outputs, MethodPlan(feature_layer=FEATURE, last_layer=LAST, settings=settings))


def settled(name: str, statistics: list[dict[str, float]]) -> dict[str, float]:
    calibration = METHODS[name].calibration
    assert calibration is not None
    return calibration.settle(statistics, MethodPlan())


@pytest.mark.parametrize("name", ["fopru", "fopru-row", "vflowopt", "prumerge", "prumerge+"])
def test_calibration_settles_settings_of_the_method_alike_whatever_lies_in_padding(name: str) -> None:
    drawn = [cases(9, 12, garbage=value) for value in (GARBAGE, 0.0)]
    statistics = [[measured(name, case.outputs) for case in some] for some in drawn]
    for one, other in zip(*statistics, strict=True):
        assert one == pytest.approx(other) and all(np.isfinite(list(one.values())))
    assert {*settled(name, statistics[0])} <= {setting.name for setting in METHODS[name].settings}


def test_the_side_is_settled_by_the_majority_of_tiles() -> None:
    outputs = next(case.outputs for case in cases(10, 50) if (case.slot >= 0).all() and len(case.slot) > 2)
    cast = torch.ones_like(outputs["map", FEATURE])
    cast[:, ::2] = 2  # every key gets the same from a query: only what is cast varies
    by_cast = measured("fopru", changed(outputs, map={FEATURE: cast}))
    by_received = measured("fopru", changed(outputs, map={FEATURE: cast[:, 1:, :1].transpose(1, 2).expand_as(cast)}))
    tiles = len(outputs.slot)
    assert by_cast == {"tiles": tiles, "received_wider": 0} and by_received["received_wider"] == tiles
    assert settled("fopru", [by_cast, by_received]) == {"side": 1}
    assert settled("fopru", [by_cast, by_cast, by_received]) == {"side": 2}


def test_sinks_are_counted_above_the_threshold_and_at_least_one() -> None:
    outputs = next(case.outputs for case in cases(10, 50) if (case.slot >= 0).all() and len(case.slot) > 2)
    received = torch.ones_like(outputs["map", FEATURE])
    received[..., 3:5] = 20
    with_two = changed(outputs, map={FEATURE: received})
    assert measured("vflowopt", with_two, threshold=2.0) == {"sinks": 2}
    assert settled("vflowopt", [{"sinks": 2.0}, {"sinks": 3.4}]) == {"sinks": 3}
    assert settled("vflowopt", [measured("vflowopt", with_two)]) == {"sinks": 1}


def test_outliers_of_attention_are_counted_as_in_the_source() -> None:
    attention = torch.full((1, 16), 0.1) + torch.arange(16) / 1000
    attention[0, 8] = 5.0
    outputs = changed(cases(10, 1)[0].outputs, slot=torch.arange(16)[None], wide={LAST: attention})
    # 1 of 16 above the fence; every int(16 / 3) = 5th of the first 15 tokens: 0, 5, 10
    assert measured("prumerge+", outputs) == {"outlier_share": 1 / 16, "ranked": 1, "spaced": 3}
    assert settled("prumerge+", [measured("prumerge+", outputs)]) == {"spread": 0.75}
    assert settled("prumerge+", [{"outlier_share": 0.0, "ranked": 0.0, "spaced": 0.0}]) == {}
    assert settled("prumerge", [measured("prumerge", outputs)]) == {}
