"""Classifiers whose tokens leave between blocks: the graph equals transformers' own blocks over the same rows, and says what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeprune.errors import PlanError
from edgeprune.models import open_classifier
from edgeprune.tokens.inside import INSIDE
from edgeprune.tokens.inside.text import inside_from_text
from edgeprune.tokens.inside.tower.method import TowerMethod
from edgeprune_export.commands.export_classifier import cuts_of_classifier, export_classifier, work_of
from edgeprune_export.gate.eager_classifier import classifier_module, cut_logits
from edgeprune_export.gate.noted_attention import NAME
from edgeprune_export.graphs.classifier import write_classifier
from tests.classifiers import Kept, huggingface_folder, logits, made_model, made_pixels, pruned_folder, relative

EXACT = 1e-5
TOWER = [name for name in INSIDE if isinstance(INSIDE[name], TowerMethod)]


def plan_for(name: str) -> str:
    """Cuts of every kind: two, one where the grid of patches is needed."""
    method: Any = INSIDE[name]
    return f"{name}@1:0.5" if method.once else f"{name}@1,2:0.7"


def by_graph(folder: Path, pixels: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"pixels": one[None].numpy()})[0] for one in pixels])


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in TOWER for kind in ("vit", "deit") if (name, kind) != ("mctf", "deit")]
)
def test_the_graph_of_every_method_equals_transformers_blocks_over_the_same_rows(
    tmp_path: Path, name: str, kind: str
) -> None:
    model, pixels = made_model(kind, layers=4), made_pixels()
    classifier = open_classifier(huggingface_folder(tmp_path / "source", model))
    cuts = cuts_of_classifier([inside_from_text(plan_for(name))], classifier.spec)
    assert cuts is not None
    write_classifier(classifier, tmp_path / "graph", "fp32", cuts)
    module = classifier_module(classifier, NAME)
    with torch.inference_mode():
        eager = np.concatenate([cut_logits(module, cuts, one[None].numpy()).numpy() for one in pixels])
    found = by_graph(tmp_path / "graph", pixels)
    assert relative(found, eager) <= EXACT
    assert relative(found, logits(model, pixels)) > 1e-3, "something left"


def test_cuts_follow_blocks_of_any_width(tmp_path: Path) -> None:
    keep = (Kept(0, (0, 2), tuple(range(0, 96, 2))), Kept(1, (0, 1, 2), tuple(range(96))), Kept(3, (1,), (3, 4, 90)))
    model, pixels = made_model(layers=4), made_pixels()
    source = open_classifier(huggingface_folder(tmp_path / "source", model))
    pruned = open_classifier(pruned_folder(tmp_path / "pruned", source.spec, model, keep))
    cuts = cuts_of_classifier([inside_from_text("absorb@0,1:0.7")], pruned.spec)
    assert cuts is not None
    write_classifier(pruned, tmp_path / "graph", "fp32", cuts)
    module = classifier_module(pruned, NAME)
    with torch.inference_mode():
        eager = np.concatenate([cut_logits(module, cuts, one[None].numpy()).numpy() for one in pixels])
    assert relative(by_graph(tmp_path / "graph", pixels), eager) <= EXACT


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_export_passes_the_gate_and_its_counts_are_those_of_the_graph(tmp_path: Path, precision: Any) -> None:
    from edgeprune_export.bundle.roofline_counts import count_model

    source = huggingface_folder(tmp_path / "source", made_model(layers=4))
    made = export_classifier(source, tmp_path / "graph", precision=precision, inside=[inside_from_text("topk@0,2:0.5")])
    assert made.parity and all(check.passed for check in made.parity)
    assert made.tokens == ((17, 9), (9, 9), (9, 5))
    counted = count_model(onnx.load(tmp_path / "graph" / "model.onnx", load_external_data=False)).macs
    whole, cut = made.macs
    assert cut < whole
    assert sum(value for kind, value in counted.items() if kind != "product") == cut


def test_without_cuts_the_counts_are_the_whole_models(tmp_path: Path) -> None:
    spec = open_classifier(huggingface_folder(tmp_path / "source", made_model(layers=4))).spec
    (whole, cut), rows = work_of(spec, None)
    assert whole == cut and rows == ((17, 17),) * 3


def test_shares_are_rounded_up_and_the_fused_token_of_evit_arrives_at_the_next_cut() -> None:
    from edgeprune.models.spec import TowerSpec
    from edgeprune.tokens.inside.tower.evit import EVIT
    from edgeprune.tokens.inside.tower.plan.cuts import cuts_of

    tower = TowerSpec("vit", 12, 384, 6, 64, 1536, 224, 16, "gelu", 1e-6, 1)
    cuts = cuts_of(inside_from_text("evit@3,6,9:0.7"), EVIT, tower, {"between": 10})
    assert cuts.keep == {3: 138, 6: 98, 9: 70}, "as in the source, for DeiT-S at rate 0.7"
    assert [cuts.rows(i) for i in (2, 3, 4, 9, 10)] == [(197, 197), (197, 140), (140, 140), (100, 72), (72, 72)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("topk@4:0.5", "cuts at block 4, and the tower has blocks 0 to 3"),
        ("topk@3:0.5", "cuts at block 3, behind which nothing is left to save; the last block that can be cut at is 2"),
        ("topk@1:16", "would leave 16 of the 16 tokens that arrive at block 1; expected 1 to 15"),
        ("topk@1,2:8,9", "would leave 9 of the 8 tokens that arrive at block 2"),
        ("tome@1:0.25", "would leave 4 of the 16 tokens that arrive at block 1; expected 8 to 15"),
        ("expedit@1:5", "leaves a grid of centres, and 5 are none; 4 is the nearest below"),
        ("pool@1,2:0.5", "needs the grid of all patches"),
    ],
)
def test_what_a_classifier_cannot_do_is_one_sentence_before_any_work(tmp_path: Path, text: str, words: str) -> None:
    source = huggingface_folder(tmp_path / "source", made_model(layers=4))
    with pytest.raises(PlanError, match=words):
        export_classifier(source, tmp_path / "graph", inside=[inside_from_text(text)])
    assert not (tmp_path / "graph").exists()


def test_a_method_that_knows_one_row_before_the_patches_refuses_a_second_one(tmp_path: Path) -> None:
    spec = open_classifier(huggingface_folder(tmp_path / "source", made_model("deit"))).spec
    with pytest.raises(PlanError, match="mctf knows one row before the patches, and the deit tower has 2"):
        cuts_of_classifier([inside_from_text("mctf@1:0.7")], spec)


def test_two_cuts_at_one_block_are_refused() -> None:
    with pytest.raises(PlanError, match="not ascending"):
        inside_from_text("topk@1,1:0.5")


def test_a_method_of_a_language_model_has_nothing_to_do_in_a_classifier(tmp_path: Path) -> None:
    from edgeprune_runtime.spec import InsideSpec

    spec = open_classifier(huggingface_folder(tmp_path / "source", made_model())).spec
    with pytest.raises(PlanError, match="works inside a language model, and a classifier has none"):
        cuts_of_classifier([InsideSpec("fastv", (1,), (0.5,))], spec)
