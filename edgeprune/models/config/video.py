"""What a checkpoint says about videos, which a bundle does not take: normal in folders of today, so a note and no refusal."""

from __future__ import annotations

from pathlib import Path

from edgeprune.models.config.section import Section, config_of_folder, json_object
from edgeprune.models.source import resolve_source

_FILE = "video_preprocessor_config.json"
_TOKEN_KEYS = ("video_token_id", "video_token_index")


def still_pictures_only(path: str | Path) -> str | None:
    """One sentence for a checkpoint, folder or hub id, that takes videos as well; None for one that does not speak of them."""
    folder = resolve_source(path)
    said = [_FILE] if (folder / _FILE).is_file() else []
    processor = folder / "processor_config.json"
    if processor.is_file() and json_object(processor).get("video_processor") is not None:
        said.append(f"{processor.name}.video_processor")
    config = config_of_folder(folder)
    said += [f"config.json.{key}" for key in _TOKEN_KEYS if config.has(key)]
    if not said:
        return None
    return f"this checkpoint takes videos too ({', '.join(said)}); a bundle answers about still pictures only"


def video_token_id(config: Section) -> int | None:
    """The id of the placeholder of a video, where config.json names one."""
    key = next((key for key in _TOKEN_KEYS if config.has(key)), None)
    return None if key is None else config.integer(key, least=0)
