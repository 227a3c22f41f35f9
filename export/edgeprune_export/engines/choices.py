"""What is asked of a build, what its engines will be bound to, and where they go: known before any graph is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.engines.target import EngineTarget, Runtime, require_rtx
from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.bundle import require_inside
from edgeprune_runtime.engines.spec import (
    ENGINES,
    LOWERED_KEY,
    EngineKey,
    EnginePrecision,
)
from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.installed import command


@dataclass(frozen=True)
class BuildFlags:
    """Choices of the builder. `low_memory` tries few tactics in little workspace: slower engines, built where memory is short."""

    low_memory: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return ("low_memory",) if self.low_memory else ()


@dataclass(frozen=True)
class BuildOptions:
    """precision: of matrix products. dialect: None takes what the library takes best. gate: hold engines against the float32 graphs."""

    precision: EnginePrecision = "fp16"
    dialect: str | None = None
    flags: BuildFlags = field(default_factory=BuildFlags)
    gate: bool = True
    force: bool = False
    command: str = "edgeprune_export.engines.build"


def place_of(root: Path, target: EngineTarget, options: BuildOptions) -> tuple[DeviceBackend | None, EngineKey, Path]:
    """The device at hand (None: ahead of time), the key of the engines, and their folder in the bundle, which is free.

    Raises PlanError for choices that do not go together, BackendUnavailable without what builds or runs, ExportError where engines are.
    """
    device = None if target.ahead_of_time else device_backend(target.runtime)
    try:
        key = _key(target, options, device)
    except BackendUnavailable as error:
        if target.runtime != "tensorrt_rtx":
            raise
        raise BackendUnavailable(
            f"{error}; or build ahead of time, without a GPU, as in --target rtx:sm86,sm89"
        ) from error
    out = require_inside(root, root / ENGINES / _folder(key))
    if out.exists() and not options.force:
        raise ExportError(
            f"{out} is there already; `{command('edgeprune', 'inspect', root)}` shows it, --force builds it again"
        )
    return device, key, out


def _folder(key: EngineKey) -> str:
    """Where engines of this key are kept: others for the same device and choices are replaced."""
    parts = (
        key.runtime,
        key.version,
        "+".join(key.capabilities),
        key.precision,
        key.dialect,
        key.power_mode,
        *key.flags,
    )
    return re.sub(r"[^\w.+-]+", "", "-".join(part for part in parts if part))


def device_backend(runtime: Runtime) -> DeviceBackend:
    """The backend that runs what is built for a runtime."""
    return OnnxRuntimeGpu("onnxruntime_cuda") if runtime == "onnxruntime" else TensorRtBackend(runtime)


def _key(target: EngineTarget, options: BuildOptions, device: DeviceBackend | None) -> EngineKey:
    """What the engines will be bound to. Raises PlanError for what a runtime cannot take, BackendUnavailable without a device."""
    if target.runtime == "onnxruntime":
        if options.precision != "fp16":
            raise PlanError(
                f"ONNX Runtime's attention on CUDA takes float16 graphs, not {options.precision}; leave --compute out"
            )
        if options.dialect is not None:
            raise PlanError(f"ONNX Runtime has a dialect of its own, not {options.dialect}; leave --dialect out")
        return LOWERED_KEY
    trt = tensorrt_api.load(target.runtime)
    ahead = EngineKey(target.runtime, trt.version, trt.api.dialect, "fp16", target.capabilities)
    key = ahead if device is None else device.here()
    if target.runtime == "tensorrt_rtx":
        for capability in key.capabilities:
            require_rtx(capability)
    dialect = options.dialect or trt.api.dialect
    return msgspec.structs.replace(key, precision=options.precision, dialect=dialect, flags=options.flags.names)
