"""A checkpoint's prompts before there is a bundle."""

from __future__ import annotations

from edgeprune.models.checkpoint import Checkpoint
from edgeprune_runtime.prompting.prompt import Prompter


def prompter_of(checkpoint: Checkpoint) -> Prompter:
    """The runtime's prompter over the checkpoint's own tokenizer and chat template."""
    spec = checkpoint.spec
    return Prompter(
        checkpoint.path / "tokenizer.json", checkpoint.chat_template, checkpoint.special_tokens, spec.image_token_id
    )
