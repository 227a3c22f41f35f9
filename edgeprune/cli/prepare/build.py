"""edgeprune build: the graphs of a bundle become TensorRT engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeprune.cli.console import Json, activity, command_line, emit, errors_as_one_line, note, out, remark, track
from edgeprune.cli.extras import need_engines
from edgeprune.cli.options import BundleFolder, Force, compute_option, target_option
from edgeprune_runtime.engines.spec import EnginePrecision

if TYPE_CHECKING:
    from edgeprune_export.engines.choices import BuildOptions
    from edgeprune_export.engines.estimate import BuildEstimate
    from edgeprune_runtime.engines.spec import EngineSet


def build(
    bundle: BundleFolder,
    target: Annotated[list[str], target_option(several=True)],
    compute: Annotated[EnginePrecision, compute_option()] = "fp16",
    dialect: Annotated[
        Literal["auto", "portable", "modern"],
        typer.Option(
            help="portable: opset 20, every TensorRT from 10.3 on; modern: fused attention, cache in place. auto: by version."
        ),
    ] = "auto",
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One engine at a time in its own process, few tactics: slower engines.")
    ] = False,
    gate: Annotated[
        bool,
        typer.Option(help="On a device, hold engines against the bundle's own graphs before sealing; off is recorded."),
    ] = True,
    force: Force = False,
    json: Json = False,
) -> None:
    """Build TensorRT engines for BUNDLE, kept inside it; what is there stays as it is until they are whole."""
    with errors_as_one_line(), activity("opening the bundle"):
        from edgeprune_export.engines.choices import BuildFlags, BuildOptions, place_of
        from edgeprune_export.engines.target import target_from_text
        from edgeprune_runtime.bundle import Bundle

        options = BuildOptions(
            precision=compute,
            dialect=None if dialect == "auto" else dialect,
            flags=BuildFlags(low_memory),
            gate=gate,
            force=force,
            command=command_line(),
        )
        targets = [target_from_text(text) for text in target]
        Bundle.open(bundle, verify=False)
        need_engines()
        for one in targets:  # of several, the last is refused before the first is built
            place_of(bundle, one, options)
        made = [(*built(bundle, one, options, quiet=json),) for one in targets]
        if json:
            emit(
                {
                    "bundle": str(bundle),
                    "engines": [{"folder": str(folder), **_as_json(found)} for folder, found in made],
                }
            )


def built(bundle: Path, target: object, options: BuildOptions, *, quiet: bool = False) -> tuple[Path, EngineSet]:
    """Build for one target and say on the terminal what is needed and what was made."""
    from edgeprune_export.engines.build import build as make
    from edgeprune_export.engines.target import EngineTarget

    assert isinstance(target, EngineTarget)

    def say(needed: BuildEstimate) -> None:
        fast, slow = needed.seconds
        note(
            f"about {needed.memory_bytes / 1e6:.0f} MB of memory, {needed.disk_bytes / 1e6:.0f} MB on disk, "
            f"{_time(fast)} to {_time(slow)}"
        )

    folder, found = make(bundle, target, options, track=track, say=say)
    if not quiet:
        size = sum(entry.bytes for entry in found.files.values())
        key = found.key
        out.print(
            f"sealed {folder}  ({len(found.engines)} engines, {size / 1e6:.1f} MB, {key.dialect} dialect, {key.precision}, "
            f"{sum(engine.build_s for engine in found.engines):.1f} s)",
            highlight=False,
        )
        if found.gate.skipped:
            remark(f"the gate did not run: {found.gate.skipped}")
        else:
            out.print(f"gate: {len(found.gate.checks)} checks against the bundle's graphs passed")
    return folder, found


def _as_json(found: EngineSet) -> dict[str, object]:
    return {"key": found.key, "engines": found.engines, "files": found.files, "gate": found.gate}


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
