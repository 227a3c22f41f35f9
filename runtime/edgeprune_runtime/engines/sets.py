"""Find the engines of a bundle that fit the device at hand, and say what differs in those that do not."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

import msgspec

from edgeprune_runtime.backends.graph_file import read_graph_file
from edgeprune_runtime.bundle import contained, require_inside, sealed_locations, sha256_of
from edgeprune_runtime.engines.spec import (
    ENGINE_DIGEST,
    ENGINE_MANIFEST,
    ENGINE_SCHEMA,
    ENGINES,
    EngineKey,
    EnginePrecision,
    EngineSet,
    EngineSpec,
)
from edgeprune_runtime.errors import BundleError, EngineError
from edgeprune_runtime.installed import command
from edgeprune_runtime.spec import Manifest

PREFERRED = get_args(EnginePrecision)


def engine_folders(root: Path) -> list[Path]:
    """Folders of engines inside a bundle, in order of their names. What is hidden is the leftover of a build, never engines.

    Raises BundleError for a link out of the bundle.
    """
    folders = (path.parent for path in (root / ENGINES).glob(f"*/{ENGINE_MANIFEST}"))
    return sorted(require_inside(root, folder) for folder in folders if not folder.name.startswith("."))


def read_engine_set(folder: Path, *, verify: bool = True) -> EngineSet:
    """Read and check a folder of engines. Raises BundleError for one that is damaged, too new or unsafe."""
    again = "build it again with `edgeprune build`"
    path = require_inside(folder, folder / ENGINE_MANIFEST)
    try:
        written = path.read_bytes()
        digest = require_inside(folder, folder / ENGINE_DIGEST).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); {again}") from error
    if hashlib.sha256(written).hexdigest() not in digest:
        raise BundleError(f"{path} is not the manifest that was sealed ({ENGINE_DIGEST} differs); {again}")
    try:
        schema = msgspec.json.decode(written, type=dict[str, msgspec.Raw]).get("schema", msgspec.Raw(b"0"))
        if bytes(schema) != str(ENGINE_SCHEMA).encode():
            raise BundleError(
                f"{path} has schema {bytes(schema).decode()}, this runtime reads {ENGINE_SCHEMA}; {again}"
            )
        found = msgspec.json.decode(written, type=EngineSet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} does not match schema {ENGINE_SCHEMA}: {error}; {again}") from error
    missing = {engine.file for engine in found.engines} - set(found.files)
    if missing:
        raise BundleError(f"{path} does not hold {', '.join(sorted(missing))}; {again}")
    for name, entry in found.files.items():
        try:
            file = contained(folder, name)
        except BundleError as error:
            raise BundleError(str(error).replace("copy or export the bundle again", again)) from error
        if file.stat().st_size != entry.bytes or (verify and sha256_of(file) != entry.sha256):
            raise BundleError(f"{name} in {folder} is corrupt (its size or SHA-256 differs); {again}")
    if found.key.runtime == "onnxruntime":
        for engine in found.engines:
            sealed_locations(folder, engine.file, read_graph_file(folder / engine.file), found.files)
    return found


def find_engines(root: Path, manifest: Manifest, here: EngineKey, *, verify: bool = True) -> tuple[Path, EngineSet]:
    """The engines that fit this device, float16 before bfloat16 before float32. Raises EngineError with what differs in each other."""
    reasons, fitting = [], []
    for folder in engine_folders(root):
        try:
            found = read_engine_set(folder, verify=False)
            if found.key.runtime != here.runtime:
                continue
            faults = engine_faults(found, [graph.name for graph in manifest.graphs])
            differs = [*differences(found.key, here), *stale(found, manifest), *faults]
            if differs:
                reasons.append(f"{folder.name} does not fit: {'; '.join(differs)}")
            else:
                fitting.append((PREFERRED.index(found.key.precision), folder, read_engine_set(folder, verify=verify)))
        except BundleError as error:
            reasons.append(str(error))
    if fitting:
        _, folder, found = min(fitting, key=lambda one: one[:2])
        return folder, found
    target = "rtx" if here.runtime == "tensorrt_rtx" else here.runtime
    what = "; ".join(reasons) or "it holds none"
    raise EngineError(
        f"bundle {root.name} has no {here.runtime} engines for this device ({what}); make them with "
        f"`{command('edgeprune', 'build', root, '--target', target)}`"
    )


def differences(found: EngineKey, here: EngineKey) -> Iterator[str]:
    """What keeps engines from running here, in words. `here` has one capability; its dialect, precision and flags do not count."""
    if found.version != here.version:
        yield f"built with {found.runtime} {found.version}, here is {here.version}"
    if here.capabilities and here.capabilities[0] not in found.capabilities:
        yield f"built for {', '.join(found.capabilities)}, this device is {here.capabilities[0]}"
    for name, label in (("gpu", "GPU"), ("driver", "driver"), ("power_mode", "power mode")):
        old, new = getattr(found, name), getattr(here, name)
        if found.gpu is not None and old != new:
            yield f"built with {label} {old or 'unknown'}, here is {new or 'unknown'}"


def engine_faults(found: EngineSet, graphs: Collection[str]) -> Iterator[str]:
    """What engines say of a bundle with these graphs that cannot be."""
    named = [name for engine in found.engines for name in engine.graphs]
    if unknown := sorted(set(named) - set(graphs)):
        yield f"they stand for {unknown[0]}, which the bundle does not have"
    if len(set(named)) != len(named) or not all(engine.graphs for engine in found.engines):
        yield "an engine for no graph, or two for one"
    for engine in found.engines:
        if engine.rows and (len(engine.rows) != len(engine.graphs) or min(engine.rows) < 1):
            yield f"engine {engine.name} has {len(engine.rows)} profiles for {len(engine.graphs)} graphs"


def stale(found: EngineSet, manifest: Manifest) -> Iterator[str]:
    """Graphs that changed since the engines were built."""
    changed = [
        name
        for name, digest in found.graphs.items()
        if name not in manifest.files or manifest.files[name].sha256 != digest
    ]
    if changed:
        yield f"the bundle's {', '.join(sorted(changed))} changed since"


def engine_of(found: EngineSet, graph: str) -> tuple[EngineSpec, int]:
    """The engine that stands for a graph of the bundle, and its optimization profile."""
    for engine in found.engines:
        if graph in engine.graphs:
            return engine, engine.graphs.index(graph) if engine.rows else 0
    raise EngineError(f"the engines hold none for the graph {graph!r}; build them again with `edgeprune build`")
