"""What a checkpoint says about text: tokenizer.json, chat template, special tokens, stop tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from edgeprune.models.config.section import REPAIR, Section, json_object
from edgeprune.models.config.video import video_token_id
from edgeprune.models.decoders import default_special_ids
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.pictures.packed import PackedPicture, pack_picture
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.prompting.prompt import VIDEO_TOKEN


@dataclass(frozen=True)
class Prompting:
    """Text side of a checkpoint. `special_tokens` are the texts a chat template may refer to, such as bos_token."""

    chat_template: str | None
    special_tokens: Mapping[str, str]
    image_token: str
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]


def prompting_from_folder(folder: Path, config: Section, text: Section, image_token_id: int, vocab: int) -> Prompting:
    """Read and check the text side; raises CheckpointError when tokenizer and model cannot belong together."""
    tokens = _tokens(folder)
    if image_token_id not in tokens:
        raise CheckpointError(
            f"config.json.image_token_index is {image_token_id}, which tokenizer.json does not have; "
            "expected the id of the image placeholder; use the tokenizer that belongs to the model"
        )
    if (largest := max((token for token in tokens if token != image_token_id), default=0)) >= vocab:
        raise CheckpointError(
            f"tokenizer.json has token id {largest}, the model embeds {vocab} ids; "
            "use the tokenizer that belongs to the model"
        )
    _tokenizer(folder, tokens[image_token_id])
    bos, eos = _special_ids(folder, config, text)
    special = _special_tokens(folder)
    video = tokens.get(-1 if (token := video_token_id(config)) is None else token)
    if video is not None:
        special.setdefault(VIDEO_TOKEN, video)
    return Prompting(_chat_template(folder), special, tokens[image_token_id], bos, eos)


def with_text_tokens(picture: PictureSpec, folder: Path, image_token: str) -> PictureSpec:
    """The same with the most token ids that the texts of one picture become."""
    if not any(segment.text for segment in _widest(picture).segments):
        return picture
    text = "".join(segment.text or image_token for segment in _widest(picture).segments)
    runs = sum(not segment.text for segment in _widest(picture).segments)
    ids = _tokenizer(folder, text)
    sequence = msgspec.structs.replace(picture.sequence, text_tokens=len(ids) - runs)
    return msgspec.structs.replace(picture, sequence=sequence)


def _tokenizer(folder: Path, text: str) -> list[int]:
    """Token ids of a text. Raises CheckpointError for a tokenizer that the tokenizers library cannot read or run."""
    try:
        ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    except BaseException as error:  # tokenizers raises plain Exception, and panics of Rust are none
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"tokenizer.json cannot be used ({error}); {REPAIR}") from error
    return ids


def _widest(picture: PictureSpec) -> PackedPicture:
    """A picture with the most tiles."""
    return pack_picture(picture.place(*picture.largest), picture)


def _tokens(folder: Path) -> dict[int, str]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json; "
            "write one with AutoTokenizer.from_pretrained(model).save_pretrained(folder) of transformers"
        )
    values = json_object(path)
    model = values.get("model")
    if not isinstance(model, dict) or "vocab" not in model:
        raise CheckpointError(
            f"tokenizer.json has no model with a vocabulary; expected a file of the tokenizers library; {REPAIR}"
        )
    vocab = model["vocab"]
    # Unigram models list [token, score] pairs, all others map token to id.
    pairs = vocab.items() if isinstance(vocab, dict) else ((pair[0], index) for index, pair in enumerate(vocab))
    added = values.get("added_tokens") or []
    try:
        tokens = {int(index): str(token) for token, index in pairs}
        return tokens | {int(entry["id"]): str(entry["content"]) for entry in added}
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"tokenizer.json has a damaged vocabulary ({error}); {REPAIR}") from error


def _chat_template(folder: Path) -> str | None:
    """The default template, from the first place that has one, in transformers' order."""
    values: list[Any] = [_optional(folder, "processor_config.json").get("chat_template")]
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        values.append(_text(jinja))
    values.append(_optional(folder, "chat_template.json").get("chat_template"))
    values.append(_optional(folder, "tokenizer_config.json").get("chat_template"))
    for value in values:
        if isinstance(value, list):  # several named templates
            value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        if isinstance(value, dict):
            value = value.get("default")
        if isinstance(value, str):
            return value
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as text ({error}); expected a Jinja template; {REPAIR}"
        ) from error


def _optional(folder: Path, name: str) -> dict[str, Any]:
    return json_object(folder / name) if (folder / name).is_file() else {}


def _special_tokens(folder: Path) -> dict[str, str]:
    merged = {**_optional(folder, "special_tokens_map.json"), **_optional(folder, "tokenizer_config.json")}
    contents = {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in merged.items()
        if key.endswith("_token")
    }
    return {key: value for key, value in contents.items() if isinstance(value, str)}


def _special_ids(folder: Path, config: Section, text: Section) -> tuple[int | None, tuple[int, ...]]:
    """(bos, stop tokens): generation_config.json first, then config.json, its text_config, the family's default."""
    default_bos, default_eos = default_special_ids(text)
    holders = [Section("generation_config.json", _optional(folder, "generation_config.json")), config, text]
    bos = next(
        (holder.integer("bos_token_id", least=0) for holder in holders if holder.has("bos_token_id")), default_bos
    )
    holder = next((holder for holder in holders if holder.has("eos_token_id")), None)
    if holder is None:
        return bos, () if default_eos is None or "eos_token_id" in text.values else (default_eos,)
    value = holder.values["eos_token_id"]
    ids = value if isinstance(value, list) else [value]
    if not all(type(index) is int and index >= 0 for index in ids):
        raise holder.refuse("eos_token_id", "a token id or a list of them")
    return bos, tuple(dict.fromkeys(ids))
