"""Methods on the command line: what is listed, what a user's file may do, what does not fit, and calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.evaluate import load_questions
from edgeprune.tokens.methods import METHODS
from edgeprune_profiles.measure.picture import draw_picture
from tests.checkpoints import tiny_checkpoint
from tests.commands import answer, complaint, invoke
from tests.exports import every_method

MINE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "mine.py"


@pytest.fixture(autouse=True)
def registry_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(METHODS, "_known", dict(METHODS._known))


def test_every_method_says_what_it_reads_where_it_acts_and_where_it_comes_from() -> None:
    found = answer("methods")
    outputs = {name for name in found if "@" not in name}
    assert outputs == set(METHODS) and len(outputs) >= 20
    for name in outputs:
        facts = found[name]
        assert facts["summary"] and facts["source"] and facts["growth"], name
        assert facts["evidence"] in ("code read", "paper", "reconstruction", "control", "own")
        assert facts["reads"]
    assert found["mmtok"]["question"] and not found["hired"]["question"]
    assert found["flowcut"]["acts"] == "inside the tower" and found["flowcut"]["calibration"]
    assert found["hired"]["reads"] == ["attention_0", "attention_22"]
    assert all(found[name]["differs"] for name in ("prumerge", "visionzip", "recoverable", "fopru", "damro"))


def test_one_method_is_described_in_full() -> None:
    text = " ".join(invoke("methods", "prumerge+").stdout.split())
    assert "keys 23" in text and "--set neighbours=32" in text and "differs" in text


def test_the_table_of_the_documentation_can_be_printed() -> None:
    lines = invoke("methods", "--as-markdown").stdout.splitlines()
    assert lines[0].startswith("| method |") and len(lines) == 2 + len(list(METHODS))


def test_a_method_from_a_users_file_is_exported_gated_and_asked(tmp_path: Path) -> None:
    bundle = tmp_path / "mine.bundle"
    said = answer("export", tiny_checkpoint(), "--budget", "0.2", "--method", f"{MINE}:UNUSUAL", "--out", bundle)
    assert {s["method"] for s in said["selections"]} == {"unusual", "random", "uniform", "downsample"}
    assert any(check["name"].startswith("select-unusual") for check in said["parity"]["checks"])
    draw_picture(90, 90, seed=1).save(tmp_path / "a.png")
    told = answer("run", bundle, "--image", tmp_path / "a.png", "--prompt", "what is this ?", "--max-tokens", 1)
    assert told["visual_tokens"] == 36


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (None, "X", "does not exist"),
        ("X = 1\n", "X", "has no Method called 'X'"),
        ("", "X", "has no Method called 'X'"),
        ("import nonsense_that_is_not_there\n", "X", "cannot be run: ModuleNotFoundError"),
        ("def\n", "X", "cannot be run: SyntaxError"),
        (
            "from edgeprune.tokens.methods import METHODS\nimport dataclasses\n"
            "X = dataclasses.replace(METHODS['random'], name='hired')\n",
            "X",
            "registered twice",
        ),
    ],
)
def test_a_users_file_that_holds_no_method_is_refused(
    tmp_path: Path, content: str | None, name: str, words: str
) -> None:
    path = tmp_path / "own.py"
    if content is not None:
        path.write_text(content)
    line = complaint(
        "export", tiny_checkpoint(), "--budget", "0.2", "--method", f"{path}:{name}", "--out", tmp_path / "b"
    )
    assert words in line


def test_a_method_whose_shapes_depend_on_values_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from edgeprune.tokens import combine\nfrom edgeprune.tokens.methods import Method\n"
        "def reduce(seen, keep, plan):\n"
        "    if seen.features.sum() > 0:\n        keep = keep\n"
        "    return combine.drop(seen.slot.flatten().nonzero()[:keep, 0])\n"
        "BAD = Method('bad', 's', 's', reduce)\n"
    )
    line = complaint("export", tiny_checkpoint(), "--budget", "0.2", "--method", f"{path}:BAD", "--out", tmp_path / "b")
    assert "method bad cannot be turned into a graph" in line
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["own.py"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "nonsense"), "unknown method 'nonsense'"),
        (("--method", "divprun"), "did you mean 'divprune'"),
        (("--method", "vtc-cls", "--set", "window"), "is not NAME=NUMBER"),
        (("--method", "vtc-cls", "--set", "size=3"), "has a setting 'size'; seed, window can be set"),
        (("--method", "random", "--set", "window=3"), "has a setting 'window'; seed can be set"),
        (("--method", "flowcut", "--set", "entropy_ratio_99=0.5"), "has a setting 'entropy_ratio_99'"),
        (("--set", "alpha=1.1"), "alpha is 1.1; expected 0 to 1"),
        (("--set", "alpha=nan"), "alpha is nan; expected 0 to 1"),
        (("--set", "early_layer=2"), "early_layer is 2; expected a whole number, 0 to 1"),
        (("--set", "early_layer=-1"), "early_layer is -1; expected a whole number, 0 to 1"),
        (("--set", "seed=0.5"), "seed is 0.5; expected a whole number, at least 0"),
        (("--settings", "missing.json"), "cannot be read"),
    ],
)
def test_what_a_method_does_not_know_is_refused_before_any_work(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    line = complaint("export", tiny_checkpoint(), "--budget", "0.2", *options, "--out", tmp_path / "b")
    assert words in line and not list(tmp_path.iterdir())


def test_a_layer_that_the_tower_lacks_is_refused_with_methods_that_fit(tmp_path: Path) -> None:
    words = ("--method", "hiprune", "--set", "object_layer=9")
    line = complaint("export", tiny_checkpoint(), "--budget", "0.2", *words, "--out", tmp_path / "b")
    assert "reads vision layer 9" in line and "layers 0 to 2" in line
    assert "methods that fit:" in line and "hired" in line and "hiprune" not in line.partition("fit:")[2]


def test_calibration_measures_settles_and_is_used_by_export(questions: Path, tmp_path: Path) -> None:
    checkpoint, plan = tiny_checkpoint(vision_layers=5), tmp_path / "settings.json"
    said = answer("calibrate", checkpoint, "--method", "flowcut", "--images", questions.parent, "--out", plan)
    assert said["pictures"] == len({q.image for q in load_questions(questions)})
    assert set(said["settings"]) == {"entropy_ratio_0", "entropy_ratio_2"}
    assert all(0 < value <= 1 for value in said["settings"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    words = ("--settings", plan, "--no-parity", "--no-controls")
    answer("export", checkpoint, "--budget", "0.2", *words, "--out", tmp_path / "b")
    sealed = json.loads((tmp_path / "b" / "manifest.json").read_text())["plan"]
    assert (sealed["method"], sealed["settings"]) == ("flowcut", said["settings"])


@pytest.mark.parametrize("method", ["fopru", "vflowopt"])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_model_of_any_size_is_calibrated_on_the_grids_that_are_asked_for(
    family: str, method: str, questions: Path, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(family=family, full_blocks=(0, 2))  # as published: the last block sees all
    words = (checkpoint, "--method", method, "--images", questions.parent, "--limit-images", 2)
    found = [
        answer("calibrate", *words, *grids, "--out", tmp_path / f"{number}.json")
        for number, grids in enumerate((("--tokens", 16), ("--grid", "32x64", "--grid", "64x32")))
    ]
    assert all(one["pictures"] == 2 and one["settings"] for one in found)
    assert "both sides are multiples of" in complaint("calibrate", *words, "--grid", "33x64", "--out", tmp_path / "x")
    if family == "qwen2_5_vl":
        answer(
            "export", checkpoint, "--budget", "0.5", "--tokens", 16, "--settings", tmp_path / "0.json", "--no-controls",
            "--out", tmp_path / "b",
        )  # fmt: skip


def test_an_interrupted_calibration_goes_on_where_it_stopped(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeprune_export.commands import calibrate as module

    words = (tiny_checkpoint(), "--method", "fopru", "--images", questions.parent, "--out", tmp_path / "settings.json")
    whole = answer("calibrate", *words)
    words += ("--force",)
    seen: list[str] = []
    measured = module._measured

    def stopping(checkpoint: object, reference: object, method: object, plan: object, path: Path) -> object:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(path.name)
        return measured(checkpoint, reference, method, plan, path)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_measured", stopping)
    assert invoke("calibrate", *words).exit_code != 0
    log = tmp_path / "settings.json.measured.jsonl"
    log.write_bytes(log.read_bytes() + b'{"picture": "torn')
    done = list(seen)
    seen.clear()
    assert answer("calibrate", *words)["settings"] == whole["settings"]
    assert len(done) == 2 and len(seen) == 1 and not set(done) & set(seen)
    assert not log.exists()


@pytest.mark.parametrize(
    ("method", "folder", "words"),
    [
        ("random", ".", "has nothing to calibrate"),
        ("fopru", "empty", "holds no pictures"),
        ("fopru", "x", "not a folder"),
    ],
)
def test_calibration_without_something_to_do_is_refused(method: str, folder: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = complaint(
        "calibrate", tiny_checkpoint(), "--method", method, "--images", tmp_path / folder, "--out", tmp_path / "p"
    )
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_tokens_that_are_drawn_are_those_of_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune_runtime.pictures import draw

    drawn: list[list[int]] = []
    sheet = draw.draw_kept
    monkeypatch.setattr(draw, "draw_kept", lambda *seen: (drawn.append(seen[3]), sheet(*seen))[1])
    draw_picture(90, 90, seed=1).save(tmp_path / "a.png")
    words = ("--image", tmp_path / "a.png", "--prompt", "how many blue circle ?", "--method", "mmtok")
    words += ("--max-tokens", 1, "--show-tokens", tmp_path / "kept.png")
    told = answer("run", every_method(), *words)
    (kept,) = drawn
    before = (tmp_path / "kept.png").stat().st_mtime_ns
    assert "kept.png exists; choose another name or replace it with --force" in complaint("run", every_method(), *words)
    assert (tmp_path / "kept.png").stat().st_mtime_ns == before
    assert [[i // 36, i % 36 // 6, i % 6] for i in kept] == told["kept"]
