"""edgeprune selftest: does a backend really work on this device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out, track, wrapped
from edgeprune.cli.extras import need_engines
from edgeprune.cli.open_bundle import BackendOption, look_at, require_backend
from edgeprune.cli.options import Force, out_option
from edgeprune.cli.plain import labelled

_MARKS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def selftest(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle of your own.", show_default="a tiny one that comes with edgeprune")
    ] = None,
    backend: BackendOption = "auto",
    record: Annotated[Path | None, out_option()] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Try a backend on this device: build engines, hold them against the CPU's answers, capture graphs, take times and energy.

    --out keeps steps, numbers and environment as JSON.
    """
    with errors_as_one_line(), tempfile.TemporaryDirectory(prefix="edgeprune-selftest-") as folder:
        require_backend(backend)
        if bundle is not None:
            look_at(bundle, backend)
        need_engines()
        from edgeprune_runtime.claims import claimed, require_new
        from edgeprune_runtime.files import write_json
        from edgeprune_runtime.meters.environment import environment

        require_new(record, force=force)
        with claimed(record):
            from edgeprune_export.engines.selftest import selftest as steps

            done = []
            for step in steps(bundle, backend, Path(folder), track):
                done.append(step)
                if not json:
                    mark = f"{step.outcome:<7}"
                    whole = wrapped(f"{mark} {step.name}: {step.detail}", out.width if out.is_terminal else None)
                    out.print(labelled(mark, _MARKS[step.outcome], whole.removeprefix(f"{mark} ")), soft_wrap=True)
        good = all(step.outcome != "failed" for step in done)
        found = {"ok": good, "backend": backend, "steps": done, "environment": environment()}
        if record is not None:
            write_json(record, found)
        if json:
            emit(found)
    if not good:
        raise typer.Exit(1)
