"""The ONNX half of `edgeprune prune`: any static graph of a plain ViT or CNN, from file to file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.cli.console import emit, out, track
from edgeprune.cli.tables import show_table
from edgeprune.errors import PlanError

if TYPE_CHECKING:
    import numpy as np

ALIGN = 8


def prune_file(
    source: Path,
    target: Path,
    *,
    structure: Sequence[str],
    importance: str | None,
    align: int | None,
    inputs: Path | None,
    input_shape: str | None,
    seed: int,
    compensate: bool | None,
    force: bool,
    json: bool,
) -> None:
    """Prune `source` to `target` and say what stayed and what could not be touched."""
    from edgeprune.structure.targets import target_from_text
    from edgeprune_export.onnx_pruning.prune import prune_onnx

    if len(structure) != 1:
        raise PlanError(f"{len(structure)} targets are given; an ONNX file takes one, params=0.7 or macs=0.7")
    wanted = target_from_text(structure[0])
    if wanted.measure not in ("params", "macs"):
        raise PlanError(f"target {wanted.label} is not for ONNX files; give params=0.7 or macs=0.7")
    done = prune_onnx(
        source,
        target,
        {wanted.measure: wanted.value},
        importance=importance or "magnitude",  # type: ignore[arg-type]  # prune_onnx refuses others by name
        inputs=None if inputs is None else _rows(inputs),
        compensate=compensate,
        align=align or ALIGN,
        input_shape=None if input_shape is None else _shape(input_shape),
        seed=seed,
        force=force,
        track=track,
    )
    if json:
        emit(done)
        return
    rows = [(group.name, str(group.kept), str(group.total)) for group in done.groups]
    show_table("coupled groups: units that stay", ("group", "kept", "of"), rows, left=("group",))
    if done.frozen:
        frozen = [(g.name, str(g.size), ", ".join(g.operators)) for g in done.frozen]
        show_table("frozen groups", ("group", "size", "because of"), frozen, left=("group", "because of"))
    reached = "reached" if done.met else "reached (no step comes nearer)"
    out.print(
        f"{wanted.label} asked, {done.reached:.3f} {reached}: {done.before.params:,} -> {done.after.params:,} parameters, "
        f"{done.before.macs:,} -> {done.after.macs:,} MACs, counted from the file",
        highlight=False,
    )
    out.print(f"wrote {target}", highlight=False)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise PlanError(f"--input-shape {text} is not understood; write for example 1,3,224,224") from error
    return shape


def _rows(path: Path) -> list[np.ndarray[Any, Any]]:
    """Calibration inputs [n, ...] as the graph takes them, one at a time. No pickles."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PlanError(
            f"{path} cannot be read ({error}); for an ONNX file, --images is a .npy array [n, ...] of inputs as the graph takes them"
        ) from error
    return [array[i : i + 1] for i in range(len(array))]
