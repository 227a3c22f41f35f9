"""Typed access to configuration files, with one-sentence refusals.

A configuration is somebody else's file: every value is checked for type and range where it is read, because a wrong one
(a negative layer count, a list where a number belongs) is otherwise accepted and answers nonsense later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.models.recognise import instead_of_checkpoint
from edgeprune_runtime.errors import CheckpointError

REPAIR = "correct the file or save the model again with transformers' save_pretrained"
#: Parts of the names of transformers' classes that read text.
_TEXT_KINDS = (
    "ForCausalLM",
    "LMHead",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
_LONGEST_SHOWN = 200
LARGEST_JSON_BYTES = 256 << 20


def json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object. Raises CheckpointError when it does not."""
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise CheckpointError(
                f"{path.name} is larger than {LARGEST_JSON_BYTES >> 20} MiB; expected a configuration file"
            )
        value = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path.name} cannot be read as JSON ({error}); expected an object; {REPAIR}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} holds a {type(value).__name__}; expected a JSON object; {REPAIR}")
    return value


def config_of_folder(folder: Path) -> Section:
    """config.json of a checkpoint folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            instead_of_checkpoint(folder)
            or f"{folder} has no config.json; expected a checkpoint folder in Hugging Face layout"
        )
    return Section("config.json", json_object(path))


def refuse_text_model(config: Section) -> None:
    """Raise CheckpointError for the configuration of a language model without eyes: it is neither a vision-language model nor a classifier."""
    named = config.values.get("architectures")
    kinds = [kind for kind in named if isinstance(kind, str)] if isinstance(named, list) else []
    reads = config.has("vocab_size") or any(part in kind for kind in kinds for part in _TEXT_KINDS)
    if reads and not sees_pictures(config):
        raise text_alone(config)


def sees_pictures(config: Section) -> bool:
    """Whether a configuration says anything about pictures."""
    return any(key.startswith(("vision", "visual", "image")) for key in config.values)


def text_alone(config: Section) -> CheckpointError:
    """The error for a model that sees none."""
    return CheckpointError(
        f"config.json.model_type is {brief(config.values.get('model_type'))} and it has no vision_config, so this is a model of text alone; "
        "expected a vision-language model: choose the checkpoint that sees pictures"
    )


def brief(value: object) -> str:
    """A value of a file as it stands there, the middle of a long one left out."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN // 2]} ... {text[-_LONGEST_SHOWN // 4 :]}"


def refuse_quantised(*sections: Section) -> None:
    """Raise CheckpointError where a configuration says that the weights are quantised."""
    for section in sections:
        if section.has("quantization_config"):
            raise CheckpointError(
                f"{section.where} has a quantization_config; expected float16, bfloat16 or float32 weights; "
                "start from the original checkpoint and use --weights int8"
            )


@dataclass(frozen=True)
class Section:
    """One object of a configuration file. `where` names it in messages, such as "config.json: text_config"."""

    where: str
    values: Mapping[str, Any]

    def refuse(self, key: str, expected: str) -> CheckpointError:
        """The error for a value that is not what it has to be."""
        found = f"is {brief(self.values[key])}" if key in self.values else "is missing"
        return CheckpointError(f"{self.where}.{key} {found}; expected {expected}; {REPAIR}")

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.refuse(key, f"an integer of at least {least}")
        return value

    def optional_integer(self, key: str, default: int | None = None, *, least: int = 0) -> int | None:
        """An integer, or None where the file says null."""
        return None if self.values.get(key, default) is None else self.integer(key, default, least=least)

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise self.refuse(key, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.refuse(key, "a text")
        return value

    def section(self, key: str) -> Section:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.refuse(key, "an object")
        return Section(f"{self.where}.{key}", value)

    def square(self, key: str, default: int | None = None) -> int:
        """The side of a square given as one integer or as a pair of equal ones."""
        value = self.values.get(key, default)
        if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refuse(key, "one positive integer (squares only)")
        return value
