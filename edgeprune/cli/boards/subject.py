"""What `project` and `recommend` are asked about: a bundle, a checkpoint that is not exported yet, or the name of a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeprune.cli.complete import shape_names_like

if TYPE_CHECKING:
    from edgeprune.models.spec import ModelSpec
    from edgeprune_profiles.boards.model import ProjectedModel, ProjectedRequest
    from edgeprune_runtime.bundle import Bundle
    from edgeprune_runtime.spec import GraphWork


#: Of a model that is not exported yet: budgets that are looked at, and positions per run of its prefill graph.
BUDGETS, CHUNK = ("0.1", "0.2", "0.5", "1.0"), 128


def model_argument() -> Any:
    text = (
        "Bundle folder, checkpoint (folder or hub id), or the shape of a published model: llava-1.5-7b, llava-next-7b, "
        "llava-onevision-0.5b, llava-onevision-7b, internvl3-1b."
    )
    return typer.Argument(metavar="MODEL", help=text, autocompletion=shape_names_like)


@dataclass(frozen=True)
class Subject:
    """A model to be projected and its budgets.

    bundle  None where there is none yet
    """

    source: str
    model: ProjectedModel
    budgets: tuple[str, ...]
    bundle: Bundle | None


def subject_of(source: str, budgets: Sequence[str], request: ProjectedRequest) -> Subject:
    """`budgets` as the user wrote them; none: all of the bundle, or BUDGETS. Raises EdgepruneError."""
    from edgeprune.plan import budget_from_text
    from edgeprune_profiles.boards.from_runs import budgets_in
    from edgeprune_profiles.boards.model import model_of_bundle, planned_model
    from edgeprune_runtime.bundle import Bundle

    if is_bundle(source):
        bundle = Bundle.open(source, verify=False)
        return Subject(source, model_of_bundle(bundle, request), budgets_in(bundle, budgets), bundle)
    labels = tuple(dict.fromkeys(budget_from_text(text).label for text in budgets)) or BUDGETS
    from edgeprune_export.bundle.counts import count_spec

    spec = _spec(source)

    def work(keep: int) -> dict[str, GraphWork]:
        return count_spec(spec, "fp32", CHUNK, keep)

    model = planned_model(spec.source, spec.picture, "fp32", CHUNK, work, request)
    return Subject(source, model, labels, None)


def is_bundle(source: str) -> bool:
    """A folder with a manifest, or one with nothing that a checkpoint has, which `Bundle.open` then has a sentence for."""
    folder = Path(source)
    return folder.is_dir() and ((folder / "manifest.json").is_file() or not (folder / "config.json").is_file())


def _spec(source: str) -> ModelSpec:
    from edgeprune.models.checkpoint import open_checkpoint
    from edgeprune.models.families.shapes import SHAPES, spec_of_shape

    if Path(source).exists() or "/" in source:
        return open_checkpoint(source).spec
    if source not in SHAPES:
        from edgeprune_runtime.errors import CheckpointError

        raise CheckpointError(
            f"{source} is no folder here, no hub id (owner/name) and no shape; shapes are {', '.join(SHAPES)}"
        )
    return spec_of_shape(source)
