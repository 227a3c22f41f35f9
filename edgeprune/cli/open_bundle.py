"""Open a bundle for a command: on the backend that was asked for, building its engines where they are missing or do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import command_line, remark
from edgeprune.cli.extras import need_engines

if TYPE_CHECKING:
    from edgeprune_runtime import Model
    from edgeprune_runtime.spec import Manifest

BackendOption = Annotated[
    str,
    typer.Option(
        help="auto takes the first that can run the bundle here: tensorrt, tensorrt_rtx, onnxruntime_cuda, onnxruntime_tensorrt, onnxruntime."
    ),
]
Build = Annotated[
    bool,
    typer.Option("--build/--no-build", help="Build engines that are missing or do not fit this device, or refuse."),
]
_TARGETS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


def look_at(bundle: Path, backend: str) -> Manifest:
    """What the bundle says of itself, so that a request can be refused before hashes are computed and graphs opened.

    Raises BundleError, BackendUnavailable for a name that no backend has.
    """
    from edgeprune_runtime.bundle import Bundle

    require_backend(backend)
    return Bundle.open(bundle, verify=False).manifest


def require_backend(name: str) -> None:
    """Raise BackendUnavailable for a name that no backend has."""
    from edgeprune_runtime.backends import BACKENDS
    from edgeprune_runtime.errors import BackendUnavailable
    from edgeprune_runtime.registry import unknown

    if name != "auto" and name not in BACKENDS:
        raise BackendUnavailable(unknown("backend", name, ("auto", *BACKENDS)))


def open_model(bundle: Path, backend: str, *, threads: int = 0, verify: bool = True, build: bool = True) -> Model:
    """The opened model. Engines are built only for a backend that was asked for by name. Raises EngineError with --no-build."""
    from edgeprune_runtime import Model
    from edgeprune_runtime.errors import EngineError

    try:
        return Model.open(bundle, backend=backend, threads=threads, verify=verify)
    except EngineError as error:
        if not build or backend not in _TARGETS:
            raise
        remark(str(error))
    from edgeprune.cli.prepare.build import built
    from edgeprune_export.engines.choices import BuildOptions
    from edgeprune_export.engines.target import target_from_text

    need_engines()
    built(bundle, target_from_text(_TARGETS[backend]), BuildOptions(force=True, command=command_line()), quiet=True)
    return Model.open(bundle, backend=backend, threads=threads, verify=verify)
