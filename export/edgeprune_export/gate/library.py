"""transformers reads the same files and may refuse what edgeprune takes: its errors as one sentence, before the work and not behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeprune.errors import CheckpointError, EdgepruneError
from edgeprune_runtime.installed import version_of

_LONGEST = 300


@contextmanager
def library_errors(what: str, folder: Path) -> Iterator[None]:
    """Whatever transformers and the libraries below it raise while they read `folder`, as CheckpointError."""
    try:
        yield
    except EdgepruneError:
        raise
    except Exception as error:  # transformers, huggingface_hub, safetensors and tokenizers raise errors of all kinds
        said = " ".join((str(error) or type(error).__name__).split())
        raise CheckpointError(
            f"transformers {version_of('transformers')} cannot make {what} of {folder}: {said[:_LONGEST]}; correct the file, or "
            "start from the original checkpoint"
        ) from error
