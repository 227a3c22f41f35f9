"""Engines for one target as a sealed addition to a bundle: lowered, linted, estimated, built, gated, published, in this order."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import psutil

from edgeprune.errors import ExportError, PlanError
from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import hashes, publish, seal, staging
from edgeprune_export.engines.builder import STEPS, BuildFlags, Job, build_engine, capabilities_for
from edgeprune_export.engines.estimate import BuildEstimate, estimate, require_room
from edgeprune_export.engines.gate import check_engines
from edgeprune_export.engines.lint.run import LintTarget
from edgeprune_export.engines.prepare import WEIGHTS, Prepared, prepare, require_clean, sources
from edgeprune_export.engines.rules.dialect import DIALECTS
from edgeprune_export.engines.subprocess_build import build_apart
from edgeprune_export.engines.target import EngineTarget, Runtime, require_rtx
from edgeprune_export.engines.timing_cache import timing_cache
from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.backends.onnxruntime_gpu import OnnxRuntimeGpu
from edgeprune_runtime.backends.tensorrt import TensorRtBackend
from edgeprune_runtime.bundle import Bundle, require_inside
from edgeprune_runtime.engines.sets import read_engine_set
from edgeprune_runtime.engines.spec import (
    ENGINE_DIGEST,
    ENGINE_MANIFEST,
    ENGINE_SCHEMA,
    ENGINES,
    LOWERED_KEY,
    EngineKey,
    EnginePrecision,
    EngineSet,
    EngineSpec,
    GateReport,
)

Say = Callable[[BuildEstimate], None]


@dataclass(frozen=True)
class BuildOptions:
    """precision: of matrix products. dialect: None takes what the library takes best. gate: hold engines against the float32 graphs."""

    precision: EnginePrecision = "fp16"
    dialect: str | None = None
    flags: BuildFlags = field(default_factory=BuildFlags)
    gate: bool = True
    force: bool = False
    command: str = "edgeprune_export.engines.build"


def build(
    root: Path, target: EngineTarget, options: BuildOptions, *, track: Track = silent, say: Say = lambda needed: None
) -> tuple[Path, EngineSet]:
    """Build all engines of the bundle in `root`; returns their folder. Nothing is left behind on any error.

    say: told what the build will need before it starts. Raises BundleError, BackendUnavailable, ExportError or ParityError.
    """
    bundle = Bundle.open(root)
    device = None if target.ahead_of_time else device_backend(target.runtime)
    key = _key(target, options, device)
    out = require_inside(root, root / ENGINES / _folder(key))
    if out.exists() and not options.force:
        raise ExportError(f"{out} is there already; `edgeprune inspect {root}` shows it, --force builds it again")
    with staging(out, force=options.force, marker=ENGINE_MANIFEST) as folder:
        needed = estimate(bundle, key.precision, ahead_of_time=target.ahead_of_time)
        if target.runtime != "onnxruntime":
            free, low = psutil.virtual_memory().available, options.flags.low_memory
            require_room(needed, folder, free, runtime=target.runtime, low_memory=low)
        lowered = folder / "lowered"
        lowered.mkdir()
        with track("lowering graphs", len(sources(bundle))) as advance:
            prepared = list(prepare(bundle, DIALECTS[key.dialect], key.precision, lowered, advance))
        if target.runtime == "onnxruntime":
            engines = tuple(_moved(one, folder) for one in prepared)
            (lowered / WEIGHTS).rename(folder / WEIGHTS)
        else:
            require_clean(prepared, _lint_target(key))
            say(needed)
            engines = _engines(prepared, folder, key, options, track)
        shutil.rmtree(lowered)
        found = EngineSet(
            schema=ENGINE_SCHEMA,
            graphs=_hashes_of_graphs(bundle),
            key=key,
            engines=engines,
            files=hashes(folder, [path.name for path in folder.iterdir()], lambda: None),
            gate=GateReport(_skipped(target, options, device)),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=options.command,
        )
        if device is not None and found.gate.skipped is None:
            device.use(bundle.root, folder, found)
            found = msgspec.structs.replace(found, gate=check_engines(bundle, device, found, track))
        seal(folder, found, ENGINE_MANIFEST, ENGINE_DIGEST)
        publish(folder, out)
    return out, read_engine_set(out, verify=False)


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


def _skipped(target: EngineTarget, options: BuildOptions, device: DeviceBackend | None) -> str | None:
    if device is None:
        return "built ahead of time, on another device than the one that will run it"
    if target.runtime == "onnxruntime" and (reason := device.why_unavailable()) is not None:
        return reason
    return None if options.gate else "switched off by --no-gate"


def _engines(
    prepared: list[Prepared], folder: Path, key: EngineKey, options: BuildOptions, track: Track
) -> tuple[EngineSpec, ...]:
    trt, made = tensorrt_api.load(key.runtime), []
    make = build_apart if options.flags.low_memory else build_engine
    with track("building engines", STEPS * len(prepared)) as advance:
        for one in prepared:
            file, told = f"{one.name}.engine", capabilities_for(trt, key)
            job = Job(one.path, folder / file, told, one.rows, options.flags, timing_cache(key))
            seconds = make(trt, job, advance)
            made.append(EngineSpec(one.name, file, one.graphs, one.rows, round(seconds, 3)))
    return tuple(made)


def _moved(one: Prepared, folder: Path) -> EngineSpec:
    """A lowered graph as it is."""
    one.path.rename(folder / one.path.name)
    return EngineSpec(one.name, one.path.name, one.graphs, one.rows)


def _lint_target(key: EngineKey) -> LintTarget:
    name = {"tensorrt_rtx": "rtx"}.get(key.runtime, key.runtime)
    return LintTarget(name, tensorrt_api.numbers_of(key.version), tuple(int(one[2:]) for one in key.capabilities))


def _hashes_of_graphs(bundle: Bundle) -> dict[str, str]:
    names = [*(g.file for g in bundle.manifest.graphs), bundle.manifest.weights_file]
    return {name: bundle.manifest.files[name].sha256 for name in names}
