"""From what a user names (a folder or a hub id) to a folder on disk, and which kind of model lies there."""

from __future__ import annotations

import re
from pathlib import Path

from edgeprune.models.config.section import config_of_folder, refuse_text_model
from edgeprune.models.recognise import instead_of_checkpoint
from edgeprune_runtime.errors import CheckpointError, MissingExtra
from edgeprune_runtime.installed import how_to_install

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_FILES = (".safetensors", ".onnx", ".json")  # what ends so is meant as a file, although it may look like a hub id
#: Everything an export reads, and nothing that could hold a pickle.
HUB_FILES = ("*.json", "*.jinja", "model.safetensors", "model-*.safetensors")


def resolve_source(source: str | Path) -> Path:
    """A folder: the one named, or the hub's snapshot of "owner/name", downloaded when it is not in the cache.

    Raises CheckpointError when there is no such folder or no way to the hub, MissingExtra without huggingface_hub.
    """
    folder = Path(source)
    if folder.is_dir():
        if what := instead_of_checkpoint(folder):
            raise CheckpointError(what)
        return folder
    if folder.exists():
        raise CheckpointError(_no_folder(folder))
    if folder.suffix in _FILES:
        raise CheckpointError(f"the file {source} does not exist; check its name and its folder")
    if not isinstance(source, str) or not _HUB_ID.match(source):
        raise CheckpointError(f"{source} does not exist; expected a checkpoint folder, or a hub id such as owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra(
            f"{source} is not a folder, and downloading it needs huggingface_hub; install it with {how_to_install('huggingface-hub')}"
        ) from error
    try:
        return Path(snapshot_download(source, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # huggingface_hub raises errors of several libraries: HTTP, validation, operating system
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{source} is not a folder here and could not be fetched from the hub ({reason}); "
            "check the name and the network, or download it elsewhere and give the folder"
        ) from error


def is_classifier(source: str | Path) -> bool:
    """True for what `open_classifier` reads: a bare weights file, or a folder whose configuration is that of one model, not two."""
    file = Path(source)
    if file.is_file():
        if file.suffix != ".safetensors":
            raise CheckpointError(_no_folder(file))
        return True
    config = config_of_folder(resolve_source(source))
    refuse_text_model(config)
    return not config.has("vision_config") and not config.has("text_config")


def _no_folder(file: Path) -> str:
    """What to say of a file that stands where a folder is expected."""
    return (
        instead_of_checkpoint(file)
        or f"{file} is a file; expected the checkpoint's folder, with config.json and safetensors files in it"
    )
