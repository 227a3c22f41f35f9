"""What a user sees of a search: a recipe that is exported within its target, its evidence, the front, and one sentence for what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeprune.errors import PlanError
from edgeprune.recipe import read_recipe
from edgeprune.schedules.target import schedule_target
from edgeprune_export.commands.export_classifier import export_classifier
from edgeprune_export.commands.search import Searching, search
from edgeprune_export.searching.run import SearchRequest
from edgeprune_runtime.bundle import Bundle
from tests.checkpoints import tiny_checkpoint
from tests.classifiers import huggingface_folder, made_model
from tests.commands import answer, complaint, invoke

SEARCH = ("--limit-images", 12, "--trials", 8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(14):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((70, 50)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return huggingface_folder(tmp_path_factory.mktemp("vit") / "vit", made_model(layers=5))


@pytest.fixture(scope="module")
def model() -> Path:
    return tiny_checkpoint(tower="clip", decoder="llama", vision_layers=5, layers=4)


@pytest.mark.parametrize("by", ["greedy", "sigmoid"])
def test_a_classifier_is_exported_within_the_target_of_its_recipe(
    classifier: Path, pictures: Path, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    recipe = tmp_path / "recipe.toml"
    asked = ("--target", "macs=0.8", "--images", pictures, "--by", by, *SEARCH, "--out", recipe)
    result = invoke("search", classifier, *asked)
    assert result.exit_code == 0, result.output
    said = [line for line in result.stdout.splitlines() if not line.startswith(("wrote ", "export it with"))]
    assert all(len(line) <= 80 for line in said), result.stdout
    read = read_recipe(recipe)
    assert read.evidence is not None and read.evidence.price <= 0.8 and read.evidence.seed == 0
    assert (read.evidence.choosing, read.evidence.confirming) == (6, 6)
    made = export_classifier(classifier, tmp_path / "graph", inside=read.tokens.inside, parity=False)
    whole, cut = made.macs
    assert cut / whole == pytest.approx(read.evidence.price)
    page = recipe.with_suffix(".html").read_text(encoding="utf-8")
    assert "<svg" in page and "The front" in page and "uniform" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "recipe.html", "recipe.toml"]
    exported = answer("export", classifier, "--recipe", recipe, "--out", tmp_path / "other", "--no-parity")
    assert exported["macs"][1] == cut


def test_a_vision_language_model_is_exported_within_the_target_of_its_recipe(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    """The bundle's own cache is what was counted; tower, output and layers are searched together."""
    recipe, bundle = tmp_path / "recipe.toml", tmp_path / "bundle"
    inside = ("--inside", "topk", "--inside", "pdrop")
    found = answer("search", model, "--target", "cache=0.9", "--images", pictures, *inside, *SEARCH, "--out", recipe)
    read = read_recipe(recipe)
    assert read.export.stage_room == "kept" and read.evidence is not None
    assert found["evidence"]["price"] == read.evidence.price <= 0.9
    for out, words in ((bundle, ("--recipe", recipe)), (tmp_path / "whole", ("--budget", "1.0", "--no-controls"))):
        result = invoke("export", model, *words, "--out", out, "--no-parity")
        assert result.exit_code == 0, result.output
    cut, whole = (
        sum(g * n * d for _, g, n, d in Bundle.open(out).manifest.language.cache_shapes)
        for out in (bundle, tmp_path / "whole")
    )
    assert cut / whole == pytest.approx(read.evidence.price)


def test_seconds_to_the_first_token_are_this_machines(model: Path, pictures: Path, tmp_path: Path) -> None:
    asked = ("--target", "ttft=0.9", "--images", pictures, "--limit-images", 12, "--trials", 3)
    found = answer("search", model, *asked, "--out", tmp_path / "recipe.toml")
    assert found["evidence"]["measure"] == "ttft" and found["evidence"]["price"] <= 0.9


def test_points_that_may_be_lost_are_a_target(classifier: Path, pictures: Path, tmp_path: Path) -> None:
    """All answers may change: then the fewest MACs win, and what was lost is said."""
    asked = ("--target", "accuracy=-99", "--images", pictures, "--limit-images", 12, "--trials", 12)
    found = answer("search", classifier, *asked, "--out", tmp_path / "recipe.toml")
    assert found["outcome"]["price"] < 0.9 and found["evidence"]["measure"] == "macs"
    assert len(found["evidence"]["points"]) == 3


@contextmanager
def ending_after(steps: int) -> Iterator[Callable[[str, int], Any]]:
    """Progress that ends the run after so many steps, as a kill would."""
    left = [steps]

    def advance() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    @contextmanager
    def track(title: str, total: int) -> Iterator[Callable[[], None]]:
        yield advance if title == "searching" else lambda: None

    yield track


def test_a_killed_search_goes_on_and_finds_the_same(classifier: Path, pictures: Path, tmp_path: Path) -> None:
    request = SearchRequest(schedule_target("macs=0.8"), trials=8)
    how = Searching(pictures, pictures=12)
    once = search(classifier, request, how, tmp_path / "once.toml")
    counted: list[int] = []
    with pytest.raises(KeyboardInterrupt), ending_after(5) as killing:
        search(classifier, request, how, tmp_path / "recipe.toml", track=killing)
    journal = tmp_path / "recipe.toml.search.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + 5, "nothing that was judged is lost"

    @contextmanager
    def counting(title: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: counted.append(1) if title == "searching" else None

    again = search(classifier, request, how, tmp_path / "recipe.toml", track=counting)
    assert (tmp_path / "recipe.toml").read_text() == (tmp_path / "once.toml").read_text()
    assert again.outcome == once.outcome and not journal.exists()
    whole = (
        len({one.plan for one in once.outcome.front}) + len({once.outcome.found.text, once.outcome.uniform.text}) + 1
    )
    assert len(counted) <= whole - 5


def test_no_gain_is_claimed_where_there_is_none(pictures: Path, tmp_path: Path) -> None:
    """A model whose class token hears nothing of the others: every schedule costs the same."""
    deaf = made_model(layers=5)
    with torch.no_grad():
        for layer in deaf.vit.layers:
            layer.attention.o_proj.weight.zero_()
    folder = huggingface_folder(tmp_path / "vit", deaf)
    found = answer(
        "search", folder, "--target", "macs=0.8", "--images", pictures, *SEARCH, "--out", tmp_path / "r.toml"
    )
    assert not found["evidence"]["gained"] and found["outcome"]["plan"] == found["outcome"]["uniform"]
    assert "the recipe is the uniform one" in found["evidence"]["said"]
    assert found["evidence"]["points"] == [0, 0, 0]


def test_a_gain_that_is_there_is_claimed_and_stands_in_the_recipe(pictures: Path, tmp_path: Path) -> None:
    """A model that listens up to block 3 only: tokens that leave from there on cost nothing, the uniform schedule cuts before."""
    early = made_model(layers=6)
    with torch.no_grad():
        for layer in early.vit.layers[4:]:
            layer.attention.o_proj.weight.zero_()
    folder = huggingface_folder(tmp_path / "vit", early)
    recipe = tmp_path / "r.toml"
    asked = ("--target", "macs=0.85", "--images", pictures, "--limit-images", 14, "--trials", 25, "--inside", "topk")
    found = answer("search", folder, *asked, "--out", recipe)
    evidence = found["evidence"]
    assert evidence["gained"] and evidence["difference"][2] < 0, evidence
    assert "costs less than the uniform one" in evidence["said"]
    assert found["outcome"]["plan"] == found["outcome"]["found"] != found["outcome"]["uniform"]
    assert min(read_recipe(recipe).tokens.inside[0].layers) >= 3


def test_questions_with_answers_can_be_the_cost(model: Path, pictures: Path, tmp_path: Path) -> None:
    lines = [
        f'{{"image": "{path.name}", "question": "what?", "answers": ["a"]}}' for path in sorted(pictures.glob("*.png"))
    ]
    questions = pictures / "questions.jsonl"
    questions.write_text("\n".join(lines), encoding="utf-8")
    asked = ("--target", "macs=0.7", "--questions", questions, "--images", pictures, "--cost", "answers")
    found = answer("search", model, *asked, "--limit-images", 12, "--trials", 3, "--out", tmp_path / "recipe.toml")
    assert found["evidence"]["cost"] == "answers" and found["evidence"]["images"] == "questions.jsonl"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "speed=2"), "target 'speed=2' is not known"),
        (("--target", "macs=0.01"), "cannot be reached: the least that these methods come to"),
        (("--target", "ttft=0.5"), "a classifier has no ttft to aim at; take latency"),
        (("--target", "cache=0.5"), "a classifier has no cache to aim at; take macs"),
        (("--target", "macs=0.8", "--method", "hired"), "a classifier has none; leave it out"),
        (("--target", "macs=0.8", "--inside", "pdrop"), "works inside a language model, and a classifier has none"),
        (("--target", "macs=0.8", "--inside", "none"), "name a method with --inside"),
        (("--target", "macs=0.8", "--inside", "absorb@2:0.5"), "a search finds how many stay"),
        (("--target", "macs=0.8", "--inside", "absorb@9"), "the tower has blocks 0 to 4"),
        (("--target", "macs=0.8", "--inside", "nobody"), "unknown inside method 'nobody'"),
        (("--target", "macs=0.8", "--cost", "answers"), "--cost answers needs labels"),
        (("--target", "macs=0.8", "--limit-images", 4), "gives 4 pictures"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(
    classifier: Path, pictures: Path, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    assert said in complaint("search", classifier, "--images", pictures, *words, "--out", tmp_path / "recipe.toml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "latency=0.5"), "a vision-language model has no latency to aim at; take ttft"),
        (("--target", "macs=0.5", "--inside", "yopo"), "there is no count to search"),
        (("--target", "macs=0.5", "--inside", "lvlm-csp"), "which a search does not judge"),
        (("--target", "macs=0.5", "--inside", "pdrop@9"), "which has layers 0 to 3"),
        (("--target", "macs=0.5", "--method", "flowcut", "--inside", "topk"), "cuts the tower by its own counts"),
        (("--target", "macs=0.5", "--inside", "pdrop", "--inside", "fastv"), "give one method for each part"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(
    model: Path, pictures: Path, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    assert said in complaint("search", model, "--images", pictures, *words, "--out", tmp_path / "recipe.toml")


def test_pictures_must_be_there(classifier: Path, tmp_path: Path) -> None:
    assert "needs pictures" in complaint("search", classifier, "--target", "macs=0.8", "--out", tmp_path / "r.toml")
    (tmp_path / "empty").mkdir()
    asked = ("--target", "macs=0.8", "--images", tmp_path / "empty", "--out", tmp_path / "r.toml")
    assert "holds no pictures" in complaint("search", classifier, *asked)


def test_a_missing_optimiser_is_a_sentence_with_the_command(
    classifier: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.schedules.bayes.find_spec", lambda name: None)
    asked = ("--target", "macs=0.8", "--images", pictures, "--by", "bayes", "--out", tmp_path / "r.toml")
    assert "--by bayes needs optuna" in complaint("search", classifier, *asked)


def test_a_recipe_that_prunes_a_classifier_is_not_exported(classifier: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[structure.tower]\ntarget = "macs=0.7"\n', encoding="utf-8")
    assert "export does not" in complaint("export", classifier, "--recipe", recipe, "--out", tmp_path / "graph")


def test_evidence_of_another_kind_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[evidence]\nnonsense = 1\n", encoding="utf-8")
    with pytest.raises(PlanError, match="evidence"):
        read_recipe(recipe)
