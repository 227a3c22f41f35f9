"""docs/limits.md says the numbers that the code has."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from edgeprune.models.config.section import LARGEST_JSON_BYTES
from edgeprune.models.weights.stored import LARGEST_HEADER_BYTES
from edgeprune_runtime.bundle import LARGEST_MANIFEST_BYTES
from edgeprune_runtime.checks import language, pictures
from edgeprune_runtime.pictures.load import MAX_SIDE_PX, load_image
from edgeprune_runtime.prompting import prompt, template_budget
from edgeprune_runtime.prompting.template import _FILTERS

PAGE = (Path(__file__).parents[2] / "docs/limits.md").read_text(encoding="utf-8")
LIMITS = {
    "pixels of a picture": inspect.signature(load_image).parameters["max_pixels"].default,
    "longest side in pixels": MAX_SIDE_PX,
    "characters of a template": template_budget.MOST_SOURCE,
    "characters of the code that jinja2 makes of it": template_budget.MOST_CODE,
    "steps of one rendering (loop turns, calls, comparisons, elements looked at)": template_budget.MOST_STEPS,
    "characters and elements made by one rendering": template_budget.MOST_MADE,
    "characters and elements of one value": template_budget.MOST_VALUE,
    "lists within lists": template_budget.MOST_DEPTH,
    "bits of a whole number": template_budget.MOST_BITS,
    "bytes of manifest.json": LARGEST_MANIFEST_BYTES,
    "layers of the language model": language.MOST_LAYERS,
    "positions of a cache": language.MOST_POSITIONS,
    "pixels along a tile": pictures.MOST_TILE_PX,
    "tiles of one picture": pictures.MOST_TILES,
    "canvases that a picture can be fitted onto": pictures.MOST_CANVASES,
    "visual tokens of one picture": pictures.MOST_UNITS,
    "characters of a text between tiles": pictures.MOST_TEXT,
    "bytes of a JSON file": LARGEST_JSON_BYTES,
    "bytes of a safetensors header": LARGEST_HEADER_BYTES,
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_limit_on_the_page_is_that_of_the_code(what: str) -> None:
    assert f"| {what} | {LIMITS[what]:,} |" in PAGE


def test_the_length_of_a_prompt_is_that_of_the_code() -> None:
    numbers = prompt.CHARACTERS_PER_POSITION, prompt.LEAST_PROMPT, prompt.MOST_PROMPT
    assert "{} per position of the bundle's capacity, at least {:,}, at most {:,}".format(*numbers) in PAGE


def test_the_page_names_every_filter_that_is_left_out() -> None:
    from jinja2.sandbox import SandboxedEnvironment

    left_out = set(SandboxedEnvironment().filters) - set(_FILTERS)
    assert [name for name in sorted(left_out) if f"`{name}`" not in PAGE] == []
