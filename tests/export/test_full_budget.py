"""At budget 1.0 the runtime's greedy answer is that of `generate` of transformers, token for token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from edgeprune_runtime import Model
from tests.checkpoints import tiny_checkpoint, variant_name
from tests.exports import GATED, exported

QUESTIONS = ("what is the number 12?", "say the colour of it")
#: (height, width): every grid, odd borders, and pictures so thin that no tile token or no column of them is left.
SIZES = ((120, 170), (50, 141), (133, 60), (96, 96), (30, 900), (900, 30), (1, 1))
TOKENS = 10


class Library:
    """A checkpoint as transformers runs it, in float32."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def answer(self, question: str, picture: Image.Image | None) -> tuple[int, ...]:
        content: list[dict[str, Any]] = [] if picture is None else [{"type": "image", "image": picture}]
        content.append({"type": "text", "text": question})
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        made = self.model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        return tuple(made[0, inputs["input_ids"].shape[1] :].tolist())


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=GATED, ids=[variant_name(variant) for variant, _ in GATED])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Model, Library]]:
    variant, plan = request.param
    with Model.open(exported(variant, plan=plan), threads=1) as model:
        yield model, Library(tiny_checkpoint(**variant))


def test_the_greedy_answer_is_that_of_transformers(both: tuple[Model, Library]) -> None:
    model, library = both
    for i, size in enumerate(SIZES):
        question = QUESTIONS[i % len(QUESTIONS)]
        ours = model.ask(question, image=picture(size), budget="1.0", max_tokens=TOKENS)
        assert ours.token_ids == library.answer(question, picture(size)), f"{size} {ours.finish_reason}"


def test_the_greedy_answer_to_text_alone_is_that_of_transformers(both: tuple[Model, Library]) -> None:
    model, library = both
    for question in QUESTIONS:
        assert model.ask(question, max_tokens=TOKENS).token_ids == library.answer(question, None)
