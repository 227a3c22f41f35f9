"""Plans of tokens that leave inside the model, as they are written on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from edgeprune.errors import PlanError
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.method import InsideMethod
from edgeprune.tokens.inside.text import inside_from_text, inside_from_texts, inside_text
from edgeprune.tokens.registry.method import Setting
from edgeprune_runtime.spec import InsideSpec


@dataclass(frozen=True)
class InTower(InsideMethod):
    part = "tower"


@dataclass(frozen=True)
class InLanguage(InsideMethod):
    part = "language"


@pytest.fixture(autouse=True)
def made_methods(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(INSIDE, "_known", dict(INSIDE._known))
    stride = Setting("stride", 3, "expected a whole number, at least 1", least=1, whole=True)
    INSIDE.add("made-cut", InTower("made-cut", "made", "test", settings=(stride,)))
    INSIDE.add("made-drop", InLanguage("made-drop", "made", "test"))
    yield


def test_layers_counts_and_settings_are_read_and_written_alike() -> None:
    texts = ("made-drop@8,16:0.5,0.25", "made-cut@3,6:0.7,40:stride=2", "made-drop@2:64")
    specs = [inside_from_text(text) for text in texts]
    assert [inside_text(spec) for spec in specs] == list(texts)
    assert specs[1] == InsideSpec("made-cut", (3, 6), (0.7, 40.0), {"stride": 2.0})


def test_one_share_holds_at_every_layer_of_what_arrives_there() -> None:
    assert inside_from_text("made-cut@3,6,9:0.7").keep == (0.7, 0.7, 0.7)
    assert inside_from_text("made-drop@8,16:0.5").keep == (0.5, 0.25)
    assert inside_from_text("made-drop@8,16:30").keep == (30, 30)


def test_none_and_nothing_say_the_same() -> None:
    assert inside_from_texts([]) == inside_from_texts(["none"]) == ()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["made-cut"], "does not say where"),
        (["made-cut@3"], "does not say where"),
        (["@3:0.5"], "does not say where"),
        (["nobody@3:0.5"], "unknown inside method 'nobody'"),
        (["made-cut@three:0.5"], "no number"),
        (["made-cut@3:half"], "no number"),
        (["made-cut@6,3:0.5"], "not ascending"),
        (["made-cut@3,3:0.5"], "not ascending"),
        (["made-cut@-1:0.5"], "not ascending"),
        (["made-cut@3,6,9:0.5,0.4"], "3 layers and has 2 counts"),
        (["made-cut@3:0"], "keeps 0"),
        (["made-drop@3:-1"], "keeps -1"),
        (["made-drop@3:2.5"], "keeps 2.5"),
        (["made-drop@3:nan"], "keeps nan"),
        (["made-drop@3:inf"], "keeps inf"),
        (["made-cut@3:0.5:step=2"], "no setting 'step'; stride can be set"),
        (["made-drop@3:0.5:step=2"], "no setting 'step'; none can be set"),
        (["made-cut@3:0.5:stride=0"], "setting stride of made-cut is 0"),
        (["made-cut@3:0.5", "made-cut@4:0.5"], "one method for each part"),
        (["none", "made-cut@3:0.5"], "exclude each other"),
    ],
)
def test_what_no_model_can_do_is_refused_in_one_sentence(texts: list[str], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        inside_from_texts(texts)
