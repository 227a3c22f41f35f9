"""The ONNX half of `edgeprune prune`: any static graph of a plain ViT or CNN, from file to file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from edgeprune.cli.console import emit, out, track
from edgeprune.cli.tables import columns, show_table
from edgeprune.errors import PlanError

ALIGN = 8


def prune_file(
    source: Path,
    target: Path,
    *,
    structure: Sequence[str],
    importance: str | None,
    align: int | None,
    inputs: Path | None,
    input_shapes: Sequence[str],
    input_values: Sequence[str],
    seed: int,
    compensate: bool | None,
    force: bool,
    json: bool,
) -> None:
    """Prune `source` to `target` and say what stayed and what could not be touched."""
    from edgeprune.structure.targets import target_from_text
    from edgeprune_export.onnx_pruning.asked import (
        OnnxTarget,
        read_inputs,
        require_free_file,
        require_score,
        require_source,
    )

    if len(structure) != 1:
        raise PlanError(f"{len(structure)} targets are given; an ONNX file takes one, params=0.7 or macs=0.7")
    wanted = target_from_text(structure[0])
    if wanted.measure not in ("params", "macs"):
        raise PlanError(f"target {wanted.label} is not for ONNX files; give params=0.7 or macs=0.7")
    asked = OnnxTarget(wanted.measure, wanted.value)
    shapes, values = shapes_from_texts(input_shapes), values_from_texts(input_values)
    require_score(importance or "magnitude")
    require_source(source)
    require_free_file(target, force=force)
    calibrating = None if inputs is None else read_inputs(inputs)
    from edgeprune_export.onnx_pruning.prune import prune_onnx

    done = prune_onnx(
        source,
        target,
        asked,
        importance=importance or "magnitude",  # type: ignore[arg-type]  # one of the names, checked above
        inputs=calibrating,
        compensate=compensate,
        align=align or ALIGN,
        input_shape=shapes,
        input_values=values,
        seed=seed,
        force=force,
        track=track,
    )
    if json:
        emit(done)
        return
    rows = [(group.name, str(group.kept), str(group.total)) for group in done.groups]
    show_table("coupled groups: units that stay", columns(("group", "kept", "of"), ("group",)), rows)
    if done.frozen:
        frozen = [(g.name, str(g.size), ", ".join(g.operators)) for g in done.frozen]
        show_table("frozen groups", columns(("group", "size", "because of"), ("group", "because of")), frozen)
    reached = "reached" if done.met else "reached (no step comes nearer)"
    out.print(
        f"{wanted.label} asked, {done.reached:.3f} {reached}: {done.before.params:,} -> {done.after.params:,} parameters, "
        f"{done.before.macs:,} -> {done.after.macs:,} MACs, counted from the file",
        highlight=False,
    )
    out.print(f"wrote {target}", highlight=False)


def shapes_from_texts(texts: Sequence[str]) -> Sequence[int | None] | dict[str, Sequence[int | None]] | None:
    """`1,3,224,224` of the only input, or `NAME=1,3,224,224` of each; -1 first keeps the batch symbolic (None)."""
    named: dict[str, Sequence[int | None]] = {}
    for text in texts:
        name, equals, lengths = text.rpartition("=")
        shape = _shape(lengths, text)
        if not equals and len(texts) == 1:
            return shape
        if not name or name in named:
            raise PlanError(
                f"--input-shape {text} names no input of its own; write NAME=1,3,224,224 for each input once"
            )
        named[name] = shape
    return named or None


def values_from_texts(texts: Sequence[str]) -> dict[str, float]:
    """`NAME=16000` of each input that becomes a constant."""
    values: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or name in values or not math.isfinite(value):
            raise PlanError(f"--input-value {text} is not understood; write NAME=16000 for each input once")
        values[name] = value
    return values


def _shape(lengths: str, text: str) -> tuple[int | None, ...]:
    try:
        shape = [int(part) for part in lengths.split(",")]
    except ValueError as error:
        raise PlanError(
            f"--input-shape {text} is not understood; write for example 1,3,224,224 or NAME=1,3,224,224"
        ) from error
    return (None if shape[0] == -1 else shape[0], *shape[1:])
