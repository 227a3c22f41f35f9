"""A family of a user's own, in a file: read, exported through the gate, and answered as transformers answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from edgeprune.models import open_checkpoint
from edgeprune.models.families import FAMILIES
from edgeprune_export.bundle.prompter import prompter_of
from edgeprune_export.gate.inputs import LibraryInputs
from edgeprune_runtime import Model
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.packed import pack_picture
from tests.checkpoints import edit_json, own_copy, tiny_checkpoint
from tests.commands import answer, complaint

FILE = Path(__file__).parents[2] / "docs/examples/family.py"
QUESTION = "what is the number 12?"
TOKENS = 5


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is registered here is known to no later test."""
    known = dict(FAMILIES._known)
    yield
    FAMILIES._known = known


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint under a model type that no family of the package has."""
    made = own_copy(tiny_checkpoint(decoder="llama"), tmp_path)
    edit_json(made / "config.json", lambda values: values.update(model_type="llava_next_video", video_token_index=0))
    return made


def test_the_example_is_short() -> None:
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.usefixtures("forgotten")
def test_it_exports_and_answers_as_transformers_does(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.bundle"
    options = ["--budget", "0.2", "--budget", "1.0", "--chunk", 32, "--text-tokens", 64, "--no-controls", "--out", out]
    sealed = answer("export", folder, *options, "--family", f"{FILE}:VIDEO", "--tiles", 2)
    assert all(check["passed"] for check in sealed["parity"]["checks"])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))
    with Model.open(out, threads=1) as model:
        assert model.bundle.manifest.family == "llava_next_video"
        assert model.bundle.manifest.picture.tiles_max == 3
        ours = model.ask(QUESTION, image=picture, budget="1.0", max_tokens=TOKENS).token_ids
        assert len(model.see(picture, budget="0.2").kept) == round(0.2 * 108)
    assert list(ours) == reference(folder, picture)


def reference(folder: Path, picture: Image.Image) -> list[int]:
    """The greedy answer of transformers' own model, its canvases limited to two tiles."""
    checkpoint = open_checkpoint(folder, FAMILIES.get("llava_next_video"), tiles=2)
    spec, prompter, library = checkpoint.spec.picture, prompter_of(checkpoint), LibraryInputs(checkpoint)
    packed = pack_picture(spec.place(picture.height, picture.width), spec)
    visual = library.visual(picture, spec, packed)
    assert visual is not None
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, image_grid_pinpoints=[[48, 96], [96, 48]]
    ).eval()
    assert type(model).__name__ == "LlavaNextVideoForConditionalGeneration"
    ids = library.ids(prompter.expanded(prompter.render(QUESTION, images=1), (packed,)))
    with torch.no_grad():
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, **visual
        )
    return [int(token) for token in made[0, ids.shape[1] :]]


@pytest.mark.usefixtures("forgotten")
def test_a_family_that_was_loaded_is_known_by_its_name(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="'llava_next_video'; supported are"):
        open_checkpoint(folder)
    FAMILIES.choose(f"{FILE}:VIDEO")
    assert open_checkpoint(folder).spec.family == "llava_next_video"


def test_what_is_no_family_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    asked = ["export", folder, "--budget", "0.2", "--out", tmp_path / "out", "--family"]
    assert "unknown model family 'llama'; did you mean 'llava'?" in complaint(*asked, "llama")
    assert "family.py has no Family called 'NOTHING'" in complaint(*asked, f"{FILE}:NOTHING")
    assert "nowhere.py does not exist" in complaint(*asked, "nowhere.py:VIDEO")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
