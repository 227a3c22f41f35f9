"""Plain classifiers under the knife: in every form they come in, and the tool that prints the table of importances."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.errors import PlanError
from edgeprune.models import open_classifier
from edgeprune.structure.plan import BlockPlan, StructurePlan
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.shrink import shrink
from edgeprune.structure.targets import target_from_text
from edgeprune_export.gate.eager_classifier import classifier_module
from edgeprune_export.pruning.options import PruneOptions, Recovery
from edgeprune_export.pruning.prune import prune
from edgeprune_export.pruning.specs import specs_of_classifier
from edgeprune_profiles.measure.picture import draw_picture
from tests.classifiers import CLASSES, PX, Kept, bare_file, huggingface_folder, made_model, masked, timm_folder

ROOT = Path(__file__).resolve().parents[2]


def pictures(folder: Path, count: int = 6) -> Path:
    """A labels.csv beside so many pictures."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        for i in range(count):
            draw_picture(40 + i, 48, seed=i).save(folder / f"{i}.png")
            rows.writerow((f"{i}.png", i % CLASSES))
    return folder / "labels.csv"


@pytest.mark.parametrize("kind", ["vit", "deit"])
@pytest.mark.parametrize("seed", range(6))
def test_a_shrunk_classifier_is_the_masked_original(kind: str, seed: int, tmp_path: Path) -> None:
    model = made_model(kind)
    random = np.random.default_rng(seed)

    def some(size: int) -> tuple[int, ...]:
        return tuple(sorted(random.choice(size, random.integers(1, size + 1), replace=False).tolist()))

    blocks = some(3) if seed % 2 else (0, 1, 2)
    kept = [Kept(block, some(3), some(96)) for block in blocks]
    classifier = open_classifier(huggingface_folder(tmp_path / kind, model))
    plan = StructurePlan({"tower": tuple(BlockPlan(one.block, one.heads, one.channels) for one in kept)})
    smaller = shrink(classifier_module(classifier).double(), specs_of_classifier(classifier.spec.vision), plan)
    pixels = torch.rand(2, 3, PX, PX, generator=torch.Generator().manual_seed(seed)).double() - 0.5
    with torch.no_grad():
        found, expected = smaller(pixels).logits, masked(model, kept).double()(pixels).logits
    assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


@pytest.mark.parametrize("form", ["huggingface", "timm", "bare"])
def test_every_form_of_classifier_is_pruned_compensated_and_recovered(form: str, tmp_path: Path) -> None:
    model = made_model()
    source = {
        "huggingface": lambda: huggingface_folder(tmp_path / "vit", model),
        "timm": lambda: timm_folder(tmp_path / "vit", model),
        "bare": lambda: bare_file(tmp_path / "vit.safetensors", made_model(hidden=128, heads=2), torch.float16),
    }[form]()
    request = StructureRequest(target_from_text("params=0.9"), "activation", "uniform", align=8)
    options = PruneOptions(
        {"tower": request}, images=pictures(tmp_path / "seen"), pictures=4, recovery=Recovery(steps=2, batch=3)
    )
    record = prune(source, tmp_path / "smaller", options)
    assert record.samples == 4 and record.compensated
    before, after = open_classifier(source), open_classifier(tmp_path / "smaller")
    assert after.spec.vision.widths and after.spec.picture == before.spec.picture
    assert after.spec.classes == before.spec.classes


def test_a_label_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    table = pictures(tmp_path / "seen", 2)
    table.write_text(f"file,label\n0.png,{CLASSES}\n", encoding="utf-8")
    request = StructureRequest(target_from_text("params=0.9"), align=8)
    with pytest.raises(PlanError, match=f"has label {CLASSES}; the model has classes 0 to {CLASSES - 1}"):
        prune(
            huggingface_folder(tmp_path / "vit", made_model()),
            tmp_path / "out",
            PruneOptions({"tower": request}, images=table),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_table_of_importances_is_printed_for_any_classifier_and_continued(tmp_path: Path) -> None:
    model = huggingface_folder(tmp_path / "vit", made_model())
    words = [sys.executable, str(ROOT / "tools" / "structure_table.py"), "--model", str(model), "--align", "8"]
    words += ["--calibrate", str(pictures(tmp_path / "seen")), "--try", str(pictures(tmp_path / "tried"))]
    words += [
        "--work",
        str(tmp_path / "work"),
        "--targets",
        "params=0.9",
        "--importances",
        "random",
        "--compare",
        "params=0.9",
    ]
    first, again = (
        subprocess.run(
            [*words, "--recover", "params=0.9,random,uniform,2,1e-4"], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    rows = [line for line in first.splitlines() if line.startswith("| params")]
    assert first == again and "unpruned: top-1" in first
    assert {"removed", "compensated", "recovered, 2 steps at 1e-4"} == {row.split("|")[4].strip() for row in rows}
    assert all(abs(float(row.split("|")[8]) - 0.9) < 0.03 for row in rows)
    words[words.index("--targets") :] = ["--targets", "--compare", "--recover", "params=0.9,random,uniform,2,1e-4"]
    alone = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert [line for line in alone.splitlines() if line.startswith("| params")] == rows[-1:]
