"""Checkpoint and plan in, sealed bundle out: what can be refused is refused first, and what writes graphs is imported then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeprune.errors import CheckpointError
from edgeprune.models import open_checkpoint
from edgeprune.tokens.inside.language_fit import require_language_fit
from edgeprune.tokens.inside.tower.plan.harm import warnings
from edgeprune.tokens.inside.tower.plan.of_model import require_cuts
from edgeprune.tokens.methods import METHODS
from edgeprune.tokens.registry.fit import method_plan
from edgeprune_export.bundle.memory import return_freed_memory
from edgeprune_export.bundle.options import ExportOptions, capacity, selections, settled
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.prompter import prompter_of
from edgeprune_export.bundle.seal import publish, require_free, staging
from edgeprune_runtime.bundle import Bundle


def export(
    source: str | Path,
    out: Path,
    options: ExportOptions,
    *,
    track: Track = silent,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Bundle:
    """Make the bundle `out` from a checkpoint folder or hub id. Nothing is left behind on any error.

    tell  is given sentences about what was chosen where nobody said

    Raises CheckpointError, PlanError, ExportError or ParityError.
    """
    return_freed_memory()
    require_free(out, force=options.force)
    with track("reading the checkpoint", 0):
        checkpoint = open_checkpoint(source, options.family, options.tiles, options.sizes, options.tokens)
    if (why := prompter_of(checkpoint).why_no_pictures()) is not None:
        raise CheckpointError(
            f"{source} cannot be asked about a picture: {why}; take chat_template.jinja of the original vision-language model, or remove the "
            "template, and pictures come first in a prompt"
        )
    model = checkpoint.spec
    for sentence in checkpoint.remarks:
        tell(sentence)
    options = settled(options, checkpoint, tell)
    plan = method_plan(options.plan, model)
    chosen = selections(options, model.picture)
    require_language_fit(options.plan, model, chosen, options.pictures)
    require_cuts(chosen, plan, options.plan.inside, model, METHODS)
    for sentence in warnings(options.plan.inside, [METHODS[name] for name in options.methods], plan):
        tell(sentence)
    room = capacity(options, chosen, model)
    if model.language.activation != "silu":
        raise CheckpointError(
            f"the decoder's activation is {model.language.activation!r}; expected silu, which llama, mistral and qwen2 use"
        )
    if options.parity:  # what the gate will need, before the work that it judges
        with track("loading torch and transformers", 0):
            from edgeprune_export.gate.eager_model import empty_model
            from edgeprune_export.gate.inputs import LibraryInputs

            LibraryInputs(checkpoint)
            empty_model(checkpoint, tower_attention="eager")
    with staging(out, force=options.force) as folder:
        with track("loading the exporter", 0):
            from edgeprune_export.bundle.write import write_bundle

        write_bundle(folder, Path(str(source)).name, checkpoint, plan, chosen, room, options, track)
        publish(folder, out)
    return Bundle.open(out, verify=False)
