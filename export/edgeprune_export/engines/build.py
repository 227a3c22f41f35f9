"""Engines for one target as a sealed addition to a bundle: lowered, linted, estimated, built, gated, published, in this order."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import psutil

from edgeprune_export.bundle.progress import Track, silent
from edgeprune_export.bundle.seal import hashes, publish, seal, staging
from edgeprune_export.engines.builder import STEPS, Job, build_engine, capabilities_for
from edgeprune_export.engines.choices import BuildOptions, place_of
from edgeprune_export.engines.estimate import BuildEstimate, estimate, require_room
from edgeprune_export.engines.gate import check_engines
from edgeprune_export.engines.lint.run import LintTarget
from edgeprune_export.engines.prepare import WEIGHTS, Prepared, prepare, require_clean, sources
from edgeprune_export.engines.rules.dialect import DIALECTS
from edgeprune_export.engines.subprocess_build import build_apart
from edgeprune_export.engines.target import EngineTarget
from edgeprune_export.engines.timing_cache import timing_cache
from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.bundle import Bundle
from edgeprune_runtime.engines.sets import read_engine_set
from edgeprune_runtime.engines.spec import (
    ENGINE_DIGEST,
    ENGINE_MANIFEST,
    ENGINE_SCHEMA,
    EngineKey,
    EngineSet,
    EngineSpec,
    GateReport,
)

Say = Callable[[BuildEstimate], None]


def build(
    root: Path, target: EngineTarget, options: BuildOptions, *, track: Track = silent, say: Say = lambda needed: None
) -> tuple[Path, EngineSet]:
    """Build all engines of the bundle in `root`; returns their folder. Nothing is left behind on any error.

    say: told what the build will need before it starts. Raises BundleError, BackendUnavailable, ExportError or ParityError.
    """
    device, key, out = place_of(root, target, options)
    bundle = Bundle.open(root)
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
