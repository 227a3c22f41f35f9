"""What distinguishes a family's folder, and the processor files that every family has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from ..byte_pairs import Specials
from ..recipe import Recipe


def _none(recipe: Recipe, ids: dict[str, int], config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {}


@dataclass(frozen=True)
class Family:
    """Configuration, tokens and processor settings, each of a recipe.

    `config` takes the recipe, the tokenizer's size and the ids of bos, eos, pad and image. `image` gives the settings of
    the image processor as its to_dict writes them, `processor` those beside them in processor_config.json. `files` gives
    further JSON files by name, or others in place of those that every folder has; it sees config.json as written.
    """

    processor_class: str
    specials: Specials
    config: Callable[[Recipe, int, dict[str, int]], PretrainedConfig]
    template: Callable[[Recipe], str]
    image: Callable[[Recipe], dict[str, Any]]
    processor: Callable[[Recipe], dict[str, Any]]
    video: dict[str, Any] | None = None
    files: Callable[[Recipe, dict[str, int], dict[str, Any]], dict[str, dict[str, Any]]] = _none


def write_files(folder: Path, recipe: Recipe, ids: dict[str, int], family: Family) -> None:
    """Write what only this family's folders hold."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, values in family.files(recipe, ids, config).items():
        _write(folder / name, values)


def write_processor(folder: Path, recipe: Recipe, family: Family) -> None:
    """Write the processor's files: by hand, since the classes with a video processor need torchvision."""
    image, template = family.image(recipe), family.template(recipe)
    own = family.processor(recipe)
    settings = {**own, "processor_class": family.processor_class}
    if recipe.processor == "old":
        _write(folder / "preprocessor_config.json", {**image, "processor_class": family.processor_class})
        _write(folder / "chat_template.json", {"chat_template": template})
        if own:
            _write(folder / "processor_config.json", settings)
        return
    video = {} if family.video is None else {"video_processor": family.video}
    _write(folder / "processor_config.json", {"image_processor": image, **settings, **video})
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
