"""Whatever cannot be done is refused in one sentence, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.errors import EdgepruneError, PlanError
from edgeprune.models import open_checkpoint
from edgeprune.structure.plan import BlockPlan, StructurePlan, check_plan
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import PruneTarget
from edgeprune_export.pruning.options import PruneOptions, Recovery
from edgeprune_export.pruning.prune import prune
from edgeprune_export.pruning.vlm import specs_of
from edgeprune_runtime.errors import CheckpointError, ExportError
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.classifiers import huggingface_folder, made_model
from tests.pruning.made import pictures, write_pictures, write_questions

SOURCE: dict[str, Any] = {"tower": "clip", "decoder": "llama"}
REQUEST = StructureRequest(PruneTarget("params", 0.7), "magnitude", align=8)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def refused(place: Path, options: PruneOptions, about: str, source: Path | None = None, out: str = "new/out") -> str:
    """The sentence of the refusal, after a check that everything is as it was."""
    before = tree(place)
    with pytest.raises(EdgepruneError, match=about) as caught:
        prune(source or tiny_checkpoint(**SOURCE), place / out, options)
    assert tree(place) == before, "something was left behind"
    sentence = str(caught.value)
    assert "Traceback" not in sentence and len(sentence) > 30
    return sentence


def tower(**changes: Any) -> PruneOptions:
    fields = {name: value for name, value in changes.items() if name in PruneOptions.__dataclass_fields__}
    request = replace(REQUEST, **{name: value for name, value in changes.items() if name not in fields})
    return PruneOptions({"tower": request}, **({"pictures": 1} | fields))


def test_nothing_asked_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, PruneOptions(), "nothing is asked")


@pytest.mark.parametrize("share", [0.05, 1e-6])
@pytest.mark.parametrize("measure", ["params", "macs"])
def test_a_target_out_of_reach_is_refused_with_what_can_be_reached(tmp_path: Path, measure: Any, share: float) -> None:
    sentence = refused(tmp_path, tower(target=PruneTarget(measure, share)), f"cannot reach {measure}=")
    least = float(sentence.split("it is at ")[1].split(";")[0])
    assert share < least < 0.7
    prune(tiny_checkpoint(**SOURCE), tmp_path / "out", tower(target=PruneTarget(measure, least + 0.001)))


def test_a_size_out_of_reach_is_refused_in_mebibytes(tmp_path: Path) -> None:
    refused(tmp_path, tower(target=PruneTarget("memory", 1024.0)), r"cannot reach memory=.*MiB: .* it is at 0\.\d MiB")


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"importance": "magnitud"}, "unknown importance 'magnitud'; did you mean 'magnitude'"),
        ({"allocation": "everywhere"}, "unknown allocation 'everywhere'; known: uniform, global"),
        (
            {"normalise": "modul"},
            "unknown normalisation 'modul'; did you mean 'module'. known: none, layer, module; choose one",
        ),
        ({"block_importance": "similar"}, "unknown block importance 'similar'; did you mean 'similarity'"),
        ({"importance": "yopo", "images": True}, "yopo says nothing about the tower; choose one of"),
        ({"block_importance": "visual", "blocks": 1, "images": True}, "visual says nothing about the tower"),
        ({"blocks": 2, "images": True}, "2 of 2 blocks of the tower cannot leave"),
        ({"blocks": 7, "images": True}, "7 of 2 blocks of the tower cannot leave"),
        ({"blocks": -1, "images": True}, "-1 of 2 blocks"),
        ({"align": 0}, "align"),
        ({"align": -8}, "align"),
        ({"images": True, "pictures": 0, "importance": "taylor"}, "pictures"),
        ({"images": True, "pictures": -1, "importance": "taylor"}, "pictures"),
        ({"importance": "obs", "pictures": 0}, "pictures"),
        ({"precision": "int3", "target": PruneTarget("memory", 1e5)}, "precision"),
    ],
)
def test_requests_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], about: str) -> None:
    refused(tmp_path, tower(**({**changes, "images": pictures()} if "images" in changes else changes)), about)


def test_a_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, PruneOptions({"vision": REQUEST}), "has no vision; it has tower, language")  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "changes",
    [
        *({"importance": name} for name in ("taylor", "activation", "amp", "core")),
        {"allocation": "slope"},
        {"blocks": 1},
        {"blocks": 1, "block_importance": "removal"},
    ],
)
def test_what_is_measured_on_pictures_is_refused_without_them(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(tmp_path, tower(**changes), "pictures.*--images")


def test_recovery_without_pictures_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tower(recovery=Recovery(1)), "recovery learns on pictures.*--images")


def _text(name: str, text: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_pictures(folder, 1)
        (folder / name).write_bytes(text)
        return folder / name

    return make


def _folder(name: str, content: bytes | None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir()
        if content is not None:
            (folder / name).write_bytes(content)
        return folder

    return make


DAMAGED: tuple[tuple[str, Callable[[Path], Path], str], ...] = (
    ("missing", lambda folder: folder, "neither a folder of pictures nor"),
    ("empty folder", _folder("a", None), "holds no pictures"),
    ("no pictures", _folder("notes.txt", b"x"), "holds no pictures"),
    ("no picture", _folder("a.png", b"this is no picture"), "a.png"),
    ("cut picture", _folder("a.png", b""), "a.png"),
    ("another file", _text("a.txt", b"x"), "neither a folder of pictures nor"),
    ("empty questions", _text("a.jsonl", b"\n"), "holds no questions"),
    ("no JSON", _text("a.jsonl", b"{"), "line 1"),
    ("no picture of that name", _text("a.jsonl", b'{"image": "7.png", "question": "q", "answer": "a"}'), "7.png"),
    ("outside", _text("a.jsonl", b'{"image": "../0.png", "question": "q", "answer": "a"}'), "outside"),
    ("no answer", _text("a.jsonl", b'{"image": "0.png", "question": "q"}'), "no reference answer"),
    ("empty table", _text("a.csv", b""), "holds no pictures"),
    ("other columns", _text("a.csv", b"name,class\n0.png,1\n"), "line 2: expected the columns file and label"),
    ("label no number", _text("a.csv", b"file,label\n0.png,cat\n"), "line 2: expected the columns file and label"),
    ("label half a digit", _text("a.csv", "file,label\n0.png,\u00b2\n".encode()), "line 2: expected the columns"),
    ("row too short", _text("a.csv", b"file,label\n0.png\n"), "line 2: expected the columns file and label"),
    ("no such file", _text("a.csv", b"file,label\n0.png,1\n7.png,1\n"), "line 3: no picture '7.png'"),
    ("outside of it", _text("a.csv", b"file,label\n../0.png,1\n"), "line 2: no picture"),
    ("not UTF-8", _text("a.csv", b"file,label\n\xff\xfe.png,1\n"), "cannot be read"),
)


@pytest.mark.parametrize(("make", "about"), [one[1:] for one in DAMAGED], ids=[one[0] for one in DAMAGED])
def test_samples_that_are_none_are_refused(tmp_path: Path, make: Callable[[Path], Path], about: str) -> None:
    refused(tmp_path, tower(importance="taylor", images=make(tmp_path / "data")), about)


def test_a_folder_that_is_there_is_replaced_by_force_only_and_only_if_it_was_pruned(tmp_path: Path) -> None:
    for name in ("out", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused(tmp_path, tower(), "exists; choose another folder", out="out")
    refused(tmp_path, tower(force=True), "holds no structure.json", out="own")
    refused(tmp_path, tower(force=True), "holds no structure.json", out="out")
    copy = own_copy(tiny_checkpoint(**SOURCE), tmp_path)
    refused(tmp_path, tower(force=True), "holds no structure.json", out=copy.name)


def test_a_plan_that_is_none_or_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    prune(tiny_checkpoint(**SOURCE), tmp_path / "first", tower())
    plan = tmp_path / "first" / "structure.json"
    again = PruneOptions(plan=plan)
    refused(tmp_path, again, "made for another checkpoint", source=tiny_checkpoint(**SOURCE, seed=1))
    copy = own_copy(tiny_checkpoint(**SOURCE), tmp_path)
    edit_json(copy / "config.json", lambda config: config.update(something="else"))
    refused(tmp_path, again, "made for another checkpoint", source=copy)
    record = json.loads(plan.read_text(encoding="utf-8"))
    for damage, about in (
        ("{", "is not a structure plan"),
        (json.dumps({**record, "schema": 99}), "has schema 99"),
        (json.dumps({key: value for key, value in record.items() if key != "parts"}), "is not a structure plan"),
        (json.dumps({**record, "parts": {"tower": {"blocks": []}}}), "none is kept"),
        (
            json.dumps({**record, "parts": {"tower": {"blocks": [{"block": 0, "heads": [9], "mlp": [0]}]}}}),
            "head groups",
        ),
        (json.dumps({**record, "parts": {"vision": {"blocks": []}}}), "is not a structure plan"),
    ):
        (tmp_path / "damaged.json").write_text(damage, encoding="utf-8")
        refused(tmp_path, PruneOptions(plan=tmp_path / "damaged.json"), about)
    refused(tmp_path, PruneOptions(plan=tmp_path / "nowhere.json"), "cannot be read")


@pytest.mark.parametrize(
    ("pairs", "about"),
    [
        ([[3, 96], [3, 96]], "a list of 3 pairs"),
        ([[3, 96]] * 4, "a list of 3 pairs"),
        ([], "a list of 3 pairs"),
        ({"0": [3, 96]}, "a list of 3 pairs"),
        ([[0, 96], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[3, 0], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[4, 96], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[3, 97], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[3], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[3, 96, 1], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[True, 96], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([[3, 96.0], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        ([["3", 96], [3, 96], [3, 96]], r"\[1, 1\] to \[3, 96\]"),
        (7, "a list of 3 pairs"),
        (
            [[2, 96], [3, 96], [3, 96]],
            r"q_proj.weight has shape \[48, 48\]; expected \[32, 48\]",
        ),  # possible, but the weights are not like that
    ],
)
def test_widths_that_cannot_be_are_refused(tmp_path: Path, pairs: Any, about: str) -> None:
    copy = own_copy(tiny_checkpoint(**SOURCE), tmp_path)
    edit_json(copy / "config.json", lambda c: c.update(edgeprune={"structure": {"tower": pairs}}))
    with pytest.raises(CheckpointError, match=about):
        open_checkpoint(copy)
    refused(tmp_path, tower(), about, source=copy)


@pytest.mark.parametrize("value", [7, [], "structure", {"structure": 7}, {"structure": []}])
def test_an_entry_that_is_no_object_is_refused(tmp_path: Path, value: Any) -> None:
    copy = own_copy(tiny_checkpoint(**SOURCE), tmp_path)
    edit_json(copy / "config.json", lambda config: config.update(edgeprune=value))
    refused(tmp_path, tower(), "edgeprune", source=copy)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": -1.0}, {"lora": 0}])
def test_a_recovery_that_is_impossible_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="is impossible; give positive numbers"):
        Recovery(**fields)


def test_a_break_at_any_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As does a full disk, in the middle of writing."""
    work, front = "edgeprune_export.pruning.carry_out", "edgeprune_export.pruning.prune"
    for name in (f"{work}.shrink", f"{work}.compensate", f"{work}.write_checkpoint", f"{front}.publish"):
        with monkeypatch.context() as patch:
            patch.setattr(
                name, lambda *_: (_ for _ in ()).throw(ExportError("no space is left on this disk; make some"))
            )
            refused(tmp_path, tower(images=pictures()), "no space is left")


def test_questions_are_pictures_too(tmp_path: Path) -> None:
    file = write_questions(tmp_path / "data" / "questions.jsonl")
    assert prune(tiny_checkpoint(**SOURCE), tmp_path / "out", tower(importance="taylor", images=file)).samples == 1


@pytest.mark.parametrize(
    ("variant", "part", "free", "bound"),
    [
        ({"family": "qwen2_5_vl", "vision_layers": 4, "full_blocks": (0, 2)}, "tower", 2, "0 and 2"),
        ({"family": "qwen3_vl", "vision_layers": 4, "deepstack": (1, 3)}, "tower", 2, "1 and 3"),
        ({"family": "qwen3_vl", "layers": 3, "deepstack": (0, 1)}, "language", 1, "0 and 1"),
    ],
    ids=["windows", "deepstack", "where it enters"],
)
def test_blocks_that_the_model_needs_never_leave(
    tmp_path: Path, variant: dict[str, Any], part: Any, free: int, bound: str
) -> None:
    source, asked = tiny_checkpoint(**variant), {part: replace(REQUEST, blocks=3)}
    sentence = refused(tmp_path, PruneOptions(asked, images=pictures()), f"the model needs blocks {bound}", source)
    assert sentence.endswith(f"from 0 to {free}")
    spec = open_checkpoint(source).spec
    described = spec.vision if part == "tower" else spec.language
    gone = int(bound[0])
    kept = [BlockPlan(i, (0,), (0,)) for i in range(described.layers) if i != gone]
    with pytest.raises(PlanError, match=f"{part}: the plan does not keep block {gone}, which"):
        check_plan(StructurePlan({part: tuple(kept)}), specs_of(spec))


def test_grids_of_a_classifier_are_refused(tmp_path: Path) -> None:
    source = huggingface_folder(tmp_path / "vit", made_model())
    refused(tmp_path, PruneOptions({"tower": REQUEST}, tokens=64), "is a classifier", source)
