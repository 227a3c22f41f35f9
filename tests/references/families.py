"""What transformers answers for a checkpoint of InternVL, Idefics3, SmolVLM or LLaVA-OneVision.

The families' processor classes need torchvision, so the question is built here: the library's image processor (the one
of Pillow and NumPy), the library's tokenizer, and between them plain loops that say what a picture's placeholder becomes.
Weights are taken in float32, whatever the files hold. One picture per question, one turn.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.image_processing_utils import select_best_resolution


def reference_inputs(folder: Path, image: Image.Image, question: str) -> dict[str, torch.Tensor]:
    """Everything that the model's forward pass takes: ids [1, S], mask [1, S], pixels and what belongs to them."""
    ids = torch.tensor([expanded_ids(folder, image, question)])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **_visual_inputs(folder, image)}


def reference_answer(folder: Path, image: Image.Image, question: str, max_new_tokens: int) -> list[int]:
    """Ids of the greedy answer, the stop token included where it was reached."""
    inputs = reference_inputs(folder, image, question)
    with torch.no_grad():
        ids = _model(folder).generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    answer: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
    return answer


def reference_logits(folder: Path, image: Image.Image, question: str) -> NDArray[np.float32]:
    """Logits [V] of the first token of the answer."""
    with torch.no_grad():
        logits: NDArray[np.float32] = _model(folder)(**reference_inputs(folder, image, question)).logits[0, -1].numpy()
    return logits


def image_features(folder: Path, image: Image.Image) -> NDArray[np.float32]:
    """The visual rows [n, D] that the library puts at the placeholders, in the order of the sequence."""
    with torch.no_grad():
        rows = _model(folder).get_image_features(**_visual_inputs(folder, image), return_dict=True).pooler_output
    features: NDArray[np.float32] = torch.cat(list(rows)).numpy()
    return features


def expanded_ids(folder: Path, image: Image.Image, question: str) -> list[int]:
    """The prompt's ids with one placeholder id per visual row.

    The text is tokenised as a whole with one placeholder per run of visual rows, because pieces of text on both sides
    of a seam may become one token; then each placeholder is repeated.
    """
    text, runs = _expansion(folder, image, rendered(folder, question))
    placeholder, left = _config(folder).image_token_id, list(runs)
    ids: list[int] = []
    for token in _tokenizer(folder)(text).input_ids:
        ids += [token] * left.pop(0) if token == placeholder else [token]
    if left:
        raise ValueError(f"{len(left)} of {len(runs)} visual runs have no placeholder in {text!r}")
    return ids


def rendered(folder: Path, question: str) -> str:
    """The chat template's text of one user turn: the picture, then the question."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text: str = _tokenizer(folder).apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=_template(folder),
        tokenize=False,
        add_generation_prompt=True,
    )
    return text


def _expansion(folder: Path, image: Image.Image, text: str) -> tuple[str, list[int]]:
    """The text with one placeholder per run of visual rows, and the runs' lengths."""
    config = _config(folder)
    if config.model_type == "internvl":
        side = round(config.vision_config.image_size[0] // config.vision_config.patch_size[0] * config.downsample_ratio)
        tiles = len(_processed(folder, image)["pixel_values"])
        return text.replace("<IMG_CONTEXT>", "<img><IMG_CONTEXT></img>"), [tiles * side * side]
    if config.model_type in ("idefics3", "smolvlm"):
        side = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
        processed = _processed(folder, image)
        rows, columns = processed["rows"][0][0], processed["cols"][0][0]
        return text.replace("<image>", _tile_text(rows, columns)), [side * side] * (rows * columns + 1)
    if config.model_type == "llava_onevision":
        return text, [_mosaic_rows(config, image)]
    raise ValueError(f"no expansion known for model_type {config.model_type!r}")


def _tile_text(rows: int, columns: int) -> str:
    """Tiles named by place, a line end after each row of them, then the whole picture; without tiles only that."""
    text = ""
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            text += f"<fake_token_around_image><row_{row}_col_{column}><image>"
        text += "\n"
    if rows:
        text += "\n"
    return text + "<fake_token_around_image><global-img><image><fake_token_around_image>"


def _mosaic_rows(config: Any, image: Image.Image) -> int:
    """Rows of the thumbnail, of the mosaic of tiles without its padding, and one newline row per line of patches."""
    tile = config.vision_config.image_size
    side = tile // config.vision_config.patch_size
    best_height, best_width = select_best_resolution([image.height, image.width], config.image_grid_pinpoints)
    height, width = best_height // tile * side, best_width // tile * side
    if image.width / image.height > width / height:
        height -= (height - int(round(image.height * (width / image.width), 7))) // 2 * 2
    else:
        width -= (width - int(round(image.width * (height / image.height), 7))) // 2 * 2
    most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    if height * width > 1.1**2 * most * side * side:
        raise ValueError(f"a mosaic of {height} x {width} patches is shrunk to {most} tiles, which this does not cover")
    return int(side * side + height * width + height)


def _visual_inputs(folder: Path, image: Image.Image) -> dict[str, torch.Tensor]:
    processed = _processed(folder, image)
    return {name: value for name, value in processed.items() if name not in ("num_patches", "rows", "cols")}


def _processed(folder: Path, image: Image.Image) -> Any:
    """What the image processor makes of the picture; the settings are those that the processor class insists on."""
    kind = _config(folder).model_type
    settings: dict[str, Any] = {}
    if kind == "internvl":
        settings["crop_to_patches"] = True
    elif kind in ("idefics3", "smolvlm"):
        settings["return_row_col_info"] = True
    return _image_processor(folder)(image, return_tensors="pt", **settings)


def _template(folder: Path) -> str | None:
    """The chat template, from whichever file holds it; None: the tokenizer's own."""
    if (folder / "chat_template.json").exists():
        text: str = json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
        return text
    return None


def _config(folder: Path) -> Any:
    return _model(folder).config


@functools.lru_cache(maxsize=4)
def _model(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@functools.lru_cache(maxsize=4)
def _image_processor(folder: Path) -> Any:
    return AutoImageProcessor.from_pretrained(folder, backend="pil")
