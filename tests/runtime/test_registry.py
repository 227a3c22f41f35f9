"""The one registry: every way to register a thing, and what is said when something is wrong with a name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeprune_runtime.errors import MeasurementError, MissingExtra, PlanError
from edgeprune_runtime.registry import Registry, unknown


@dataclasses.dataclass(frozen=True)
class Fruit:
    name: str
    sweet: bool = True


APPLE, PEAR = Fruit("apple"), Fruit("pear")
NOT_A_FRUIT = 3
GROUP = "edgeprune_tests.fruits"


@pytest.fixture
def fruits() -> Registry[Fruit]:
    registry = Registry("fruit", kind=Fruit)
    registry.add("pear", PEAR)
    registry.add_lazy("apple", f"{__name__}:APPLE")
    return registry


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *points: str, name: str = "orchard") -> None:
    """A distribution that offers entry points, on the path."""
    folder = tmp_path / f"{name}-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *points]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_things_are_found_by_name_in_the_order_they_were_registered(fruits: Registry[Fruit]) -> None:
    assert fruits.get("pear") is fruits["pear"] is PEAR and fruits.get("apple") is APPLE
    assert fruits.names() == tuple(fruits) == ("pear", "apple") and len(fruits) == 2
    assert "apple" in fruits and "plum" not in fruits and 3 not in fruits


def test_a_lazy_thing_is_imported_only_when_its_name_is_asked_for() -> None:
    registry: Registry[Fruit] = Registry("fruit")
    registry.add_lazy("ghost", "edgeprune_tests.no_such_module:GHOST")
    assert registry.names() == ("ghost",) and "ghost" in registry
    with pytest.raises(PlanError, match=r"fruit 'ghost' cannot be loaded from .*GHOST: ModuleNotFoundError"):
        registry.get("ghost")


def test_an_error_of_ours_while_loading_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from edgeprune_runtime.errors import MissingExtra\nraise MissingExtra('install it')\n"
    (tmp_path / "needs_an_extra.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[Fruit] = Registry("fruit")
    registry.add_lazy("fig", "needs_an_extra:FIG")
    with pytest.raises(MissingExtra, match="install it"):
        registry.get("fig")


def test_a_name_is_taken_once(fruits: Registry[Fruit]) -> None:
    with pytest.raises(PlanError, match="fruit 'pear' is registered twice; give one of them another name"):
        fruits.add("pear", Fruit("pear", sweet=False))
    with pytest.raises(PlanError, match="registered twice"):
        fruits.add_lazy("pear", f"{__name__}:PEAR")


def test_an_unknown_name_is_answered_with_a_guess_the_known_ones_and_what_to_do(fruits: Registry[Fruit]) -> None:
    sentence = "unknown fruit 'aple'; did you mean 'apple'? known: pear, apple; choose one of these"
    for ask, advice in ((fruits.get, ""), (fruits.choose, ", or give your own as path/to/file.py:NAME")):
        with pytest.raises(PlanError) as told:
            ask("aple")
        assert str(told.value) == sentence + advice
    assert unknown("fruit", "x", ()) == "unknown fruit 'x'; known: none; choose one of these"


def test_the_registry_raises_the_error_it_was_given() -> None:
    with pytest.raises(MeasurementError, match="unknown meter"):
        Registry[Fruit]("meter", error=MeasurementError).get("x")


def test_an_installed_package_offers_things_after_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, f"z = {__name__}:PEAR", f"b = {__name__}:APPLE", f"bad = {__name__}:NOT_A_FRUIT")
    registry = Registry("fruit", group=GROUP, kind=Fruit)
    registry.add("plum", Fruit("plum"))
    assert registry.names() == ("plum", "b", "bad", "z")
    assert registry.get("z") is PEAR and registry.get("z") is PEAR
    with pytest.raises(PlanError, match="fruit 'bad' of orchard is of type int; .*NOT_A_FRUIT must be a Fruit"):
        registry.get("bad")


def test_an_installed_package_cannot_take_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, f"a = {__name__}:PEAR", f"plum = {__name__}:PEAR")
    registry = Registry("fruit", group=GROUP, kind=Fruit)
    registry.add("plum", Fruit("plum"))
    for _ in range(2):
        with pytest.raises(PlanError, match="fruit 'plum' is registered twice by orchard; give one of them"):
            registry.names()


def test_a_users_file_runs_once_and_its_thing_goes_by_its_own_name(fruits: Registry[Fruit], tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from {__name__} import Fruit\nMINE = Fruit('quince')\nOTHER = Fruit('medlar', sweet=False)\n")
    mine = fruits.choose(f"{path}:MINE")
    assert mine is fruits.load_file(f"{path}:MINE") is fruits.get("quince")
    assert fruits.choose(f"{path}:OTHER").name == "medlar" and fruits.choose("pear") is PEAR
    assert fruits.names() == ("pear", "apple", "quince", "medlar")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist; give a fruit as path/to/file.py:NAME, where NAME is a Fruit"),
        ("X = 1\n", r"has no Fruit called 'X'; it needs X = Fruit\(...\)"),
        ("", "has no Fruit called 'X'"),
        ("import nonsense_that_is_not_there\n", "cannot be run: ModuleNotFoundError"),
        ("def\n", "cannot be run: SyntaxError"),
        (f"from {__name__} import Fruit\nX = Fruit('pear', sweet=False)\n", "'pear' is registered twice"),
    ],
)
def test_a_users_file_that_holds_no_thing_is_refused(
    fruits: Registry[Fruit], tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / f"own{abs(hash(content))}.py"  # a file is run once, and a folder's name may come again
    if content is not None:
        path.write_text(content)
    with pytest.raises(PlanError, match=words):
        fruits.load_file(f"{path}:X")
    assert fruits.names() == ("pear", "apple")
