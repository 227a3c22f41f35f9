"""What transformers answers for a checkpoint of Qwen-VL: any number of pictures and turns, each picture resized to a given size.

The processor classes need torchvision, so a prompt is built of the tokenizer, its chat template and the image processor of
Pillow and NumPy. Weights are taken in float32, whatever the files hold. A message's content is a text, or a list of
{"type": "text", "text": ...} and {"type": "image", "image": a PIL picture}; sizes are height and width in pixels.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

from tests.references.qwen_pixels import image_processor, library_pixels, stretched

Messages = Sequence[dict[str, Any]]
Size = tuple[int, int]


def qwen_inputs(folder: Path, messages: Messages, sizes: Sequence[Size] = ()) -> dict[str, torch.Tensor]:
    """What the forward pass takes: ids [1, S], mask, token types (1 at visual tokens), pixels [P, 3 * 2 * patch^2], grids.

    The last two are missing where there is no picture.
    """
    pictures = [part["image"] for part in _parts(messages) if part["type"] == "image"]
    resized = [stretched(image, size) for image, size in zip(pictures, sizes, strict=True)]
    pixels = [library_pixels(folder, image) for image in resized]
    grids = [[1, *grid] for _, grid in pixels]
    ids = torch.tensor([_ids(folder, rendered(folder, messages), grids)])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if not pixels:
        return inputs
    return {
        **inputs,
        "mm_token_type_ids": ids.eq(qwen_model(folder).config.image_token_id).int(),
        "pixel_values": torch.from_numpy(np.concatenate([rows for rows, _ in pixels])),
        "image_grid_thw": torch.tensor(grids),
    }


def qwen_answer(folder: Path, messages: Messages, sizes: Sequence[Size] = (), *, max_new_tokens: int = 8) -> list[int]:
    """Ids of the greedy answer, the stop token included where it was reached."""
    inputs = qwen_inputs(folder, messages, sizes)
    with torch.no_grad():
        ids = qwen_model(folder).generate(**inputs, max_new_tokens=max_new_tokens)
    answer: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
    return answer


def library_positions(folder: Path, inputs: dict[str, torch.Tensor]) -> tuple[NDArray[np.int64], int]:
    """Positions [3, S] that the library gives the prompt's rows, and that of the first row of the answer."""
    ids = inputs["input_ids"]
    if "image_grid_thw" not in inputs:
        return np.tile(np.arange(ids.shape[1]), (3, 1)), ids.shape[1]
    positions, delta = qwen_model(folder).model.get_rope_index(
        ids, mm_token_type_ids=inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    return positions[:, 0].numpy(), int(delta) + ids.shape[1]


def picture_rows(folder: Path, inputs: dict[str, torch.Tensor]) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    """Visual tokens [N, D] of each picture row by row, and for each early layer those that enter behind it, per picture."""
    with torch.no_grad():
        out = qwen_model(folder).get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)
    return list(out.pooler_output), [list(layer) for layer in getattr(out, "deepstack_features", None) or []]


def merged_grids(folder: Path, inputs: dict[str, torch.Tensor]) -> list[Size]:
    """Rows and columns of visual tokens of each picture."""
    merge = qwen_model(folder).config.vision_config.spatial_merge_size
    return [(rows // merge, columns // merge) for _, rows, columns in inputs["image_grid_thw"].tolist()]


def rendered(folder: Path, messages: Messages) -> str:
    """The chat template's text, with one placeholder per picture."""
    bare = [
        {
            **message,
            "content": content
            if isinstance(content := message["content"], str)
            else [{"type": "image"} if part["type"] == "image" else part for part in content],
        }
        for message in messages
    ]
    text: str = _tokenizer(folder).apply_chat_template(
        bare, chat_template=_template(folder), tokenize=False, add_generation_prompt=True
    )
    return text


@functools.lru_cache(maxsize=4)
def qwen_model(folder: Path) -> Any:
    """The model in float32. It answers greedily: what generation_config.json samples or penalises is forgotten."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name.endswith("_token_id")}
    make: Any = GenerationConfig
    model.generation_config = make(do_sample=False, **kept)  # settings given to generate only fill in for these
    return model


def _ids(folder: Path, text: str, grids: Sequence[Sequence[int]]) -> list[int]:
    pieces = text.split("<|image_pad|>")
    cell = image_processor(folder).merge_size ** 2
    whole = pieces[0]
    for piece, (_, rows, columns) in zip(pieces[1:], grids, strict=True):
        whole += "<|image_pad|>" * (rows * columns // cell) + piece
    ids: list[int] = _tokenizer(folder)(whole).input_ids
    return ids


def _parts(messages: Messages) -> list[dict[str, Any]]:
    return [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]


def _template(folder: Path) -> str | None:
    """The chat template, from whichever file holds it; None: the tokenizer's own."""
    path = folder / "chat_template.json"
    if not path.exists():
        return None
    text: str = json.loads(path.read_text(encoding="utf-8"))["chat_template"]
    return text


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """A picture in which no two places are alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
