"""Open a sealed bundle: every path inside the folder, every size and hash checked, nothing ever unpickled.

manifest.json is written last, so a folder without one is not a bundle. The weights file is mapped, not read: rows of the
embedding table are taken from the map when they are needed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgeprune_runtime.backends.graph_file import GraphFile, read_graph_file
from edgeprune_runtime.checks.graphs import graph_faults, interface_faults
from edgeprune_runtime.checks.language import choice_faults, language_faults
from edgeprune_runtime.checks.pictures import picture_faults
from edgeprune_runtime.checks.weights import weight_faults
from edgeprune_runtime.errors import BundleError
from edgeprune_runtime.installed import command
from edgeprune_runtime.spec import SCHEMA, FileSpec, GraphSpec, Manifest, TensorRef, tower_of

if TYPE_CHECKING:
    from edgeprune_runtime.backends import Backend, Session

MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
LARGEST_MANIFEST_BYTES = 64 << 20
_BLOCK = 1 << 20


#: Device, inode, size and time of the last change: another file under the same name differs in one of them.
FileIdentity = tuple[int, int, int, int]


@dataclass(frozen=True)
class Bundle:
    """A checked folder and its manifest. opened: which files were checked, by name, so that what is opened later is what was sealed then."""

    root: Path
    manifest: Manifest
    opened: Mapping[str, FileIdentity | None] = field(default_factory=dict, compare=False)
    _graph_files: dict[str, GraphFile] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, root: str | Path, *, verify: bool = True, progress: Callable[[str], None] | None = None) -> Bundle:
        """Read and check a bundle. verify=False checks sizes only, not hashes (a faster start from trusted storage)."""
        if not isinstance(root, (str, os.PathLike)):
            raise BundleError(f"a bundle is opened from a path, not from {type(root).__name__}; give its folder")
        folder = Path(root)
        manifest = read_manifest(folder)
        opened = {}
        for name, entry in manifest.files.items():
            if progress:
                progress(name)
            path = contained(folder, name)
            opened[name] = _identity(path)
            size = path.stat().st_size
            if size != entry.bytes:
                raise BundleError(
                    f"{name} in bundle {folder} has {size} bytes, expected {entry.bytes}; copy or export the bundle again"
                )
            if verify and sha256_of(path) != entry.sha256:
                raise BundleError(
                    f"{name} in bundle {folder} is corrupt (its SHA-256 differs); copy or export the bundle again"
                )
        bundle = cls(folder, manifest, opened)
        bundle.require_sound()
        return bundle

    @property
    def sha256(self) -> str:
        """Hash of the manifest, which holds the hashes of everything else."""
        return sha256_of(self.root / MANIFEST)

    def graph(self, name: str) -> GraphSpec:
        for spec in self.manifest.graphs:
            if spec.name == name:
                return spec
        raise BundleError(
            f"bundle {self.root} has no graph {name!r}; it has {', '.join(g.name for g in self.manifest.graphs)}"
        )

    def ranks_by(self, name: str) -> bool:
        """Whether a ranking inside the language model reads this of every prompt."""
        graphs = [self.graph(stage.rank) for stage in self.manifest.language.stages if stage.rank]
        return any(spec.name == name for graph in graphs for spec in graph.inputs)

    def path(self, name: str) -> Path:
        return contained(self.root, name)

    def session(self, backend: Backend, name: str) -> Session:
        """One graph on a backend, its weights those that were sealed. Raises BundleError where the bundle was replaced since it was opened."""
        graph = self.graph(name)
        read = self.read_by(graph)
        self.require_same(*read)
        session = backend.open(self.root, graph, resident=self.manifest.precision == "int8")
        self.require_same(*read)
        return session

    def read_by(self, graph: GraphSpec) -> tuple[str, ...]:
        """The files that opening a graph reads: its own and those of its weights. Raises BundleError for one that is not sealed."""
        return (graph.file, *sealed_locations(self.root, graph.file, self._graph_file(graph), self.manifest.files))

    def require_same(self, *names: str) -> None:
        """Raise BundleError for a file that is not the one that was checked when the bundle was opened."""
        for name in names:
            if name in self.opened and _identity(self.root / name) != self.opened[name]:
                raise BundleError(
                    f"bundle {self.root} was replaced or changed since it was opened ({name} is another file); open it again"
                )

    def _graph_file(self, graph: GraphSpec) -> GraphFile:
        if graph.file not in self._graph_files:
            self._graph_files[graph.file] = read_graph_file(self.path(graph.file))
        return self._graph_files[graph.file]

    def text(self, name: str) -> str:
        try:
            return self.path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BundleError(f"{name} in bundle {self.root} is not UTF-8 text; export the bundle again") from error

    @cached_property
    def _mapped(self) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
        self.require_same(self.manifest.weights_file)
        return np.memmap(self.path(self.manifest.weights_file), dtype=np.uint8, mode="r")

    def tensor(self, ref: TensorRef) -> np.ndarray:
        """A read-only view of a tensor in the weights file; no byte is read until it is used."""
        dtype = np.dtype(ref.dtype)
        size = int(np.prod(ref.shape)) * dtype.itemsize
        if ref.offset < 0 or ref.offset + size > self._mapped.size:
            raise BundleError(f"bundle {self.root} refers to bytes beyond its weights file; export the bundle again")
        return self._mapped[ref.offset : ref.offset + size].view(dtype).reshape(ref.shape)

    def require_sound(self) -> None:
        """Raise BundleError where the manifest names what is not there, or does not hold together with itself and its graphs."""
        self._require(picture_faults(self.manifest.picture))  # first: views of tiles without end are not counted
        self._check_references()
        self._require(self._faults())

    def _require(self, faults: Iterator[str]) -> None:
        if fault := next(faults, None):
            raise BundleError(
                f"the manifest of bundle {self.root} does not hold together: {fault}; export the bundle again"
            )

    def _check_references(self) -> None:
        named = {self.manifest.weights_file, *(g.file for g in self.manifest.graphs), "tokenizer.json"}
        graphs = {g.name for g in self.manifest.graphs}
        towers = {
            tower_of(s.tower, view) for s in self.manifest.selections for view in self.manifest.picture.views or (None,)
        }
        unsealed = named - set(self.manifest.files)
        unknown = {s.graph for s in self.manifest.selections} | towers | set(self.manifest.language.graphs)
        unknown -= graphs
        uncounted = {f"the work of {name}" for name in graphs - set(self.manifest.work)}
        if unsealed or unknown or uncounted:
            missing = ", ".join(sorted(unsealed | unknown | uncounted))
            raise BundleError(f"the manifest of bundle {self.root} does not hold {missing}; export the bundle again")

    def _faults(self) -> Iterator[str]:
        """What the manifest says that cannot be, or is not so in its graphs; read until the first one."""
        manifest = self.manifest
        yield from language_faults(manifest.language, manifest.files[manifest.weights_file].bytes)
        yield from choice_faults(manifest)
        yield from graph_faults(manifest)
        for graph in manifest.graphs:
            self.read_by(graph)
            file = self._graph_file(graph)
            yield from interface_faults(graph, file.inputs, file.outputs)


def sealed_locations(root: Path, name: str, graph: GraphFile, sealed: Mapping[str, FileSpec]) -> tuple[str, ...]:
    """Files of the folder `root` that the graph in its file `name` reads weights from.

    Raises BundleError for one that is not `sealed`, and for a tensor that does not lie in it.
    """
    places = {tensor.location: (PurePosixPath(name).parent / tensor.location).as_posix() for tensor in graph.external}
    if unsealed := sorted(place for place in places.values() if place not in sealed):
        raise BundleError(
            f"{name} in bundle {root} reads weights from {unsealed[0]!r}, which the manifest does not seal; do not use this bundle"
        )
    sizes = {location: sealed[place].bytes for location, place in places.items()}
    if fault := next(weight_faults(graph.external, sizes), None):
        raise BundleError(f"{name} in bundle {root} has {fault}; do not use this bundle")
    return tuple(sorted(set(places.values())))


def require_inside(root: Path, path: Path) -> Path:
    """`path`, which may not exist yet; raises BundleError where it or a folder above is a link out of the bundle `root`."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleError(
            f"{path} is a link out of the bundle {root}, which is neither read nor written; put the real folder there"
        )
    return path


def _identity(path: Path) -> FileIdentity | None:
    """None where there is nothing any more."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def contained(root: Path, name: str) -> Path:
    """The file `name` inside `root`; refuses absolute paths, `..`, links out of the folder and anything but a plain file."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise BundleError(
            f"the manifest names the path {name!r}, which is not inside the bundle {root}; do not use this bundle"
        )
    path = root / pure
    if not os.path.exists(path):  # unlike Path.exists, False for a name that is too long
        raise BundleError(f"{name} is missing from bundle {root}; copy or export the bundle again")
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise BundleError(f"{name} in bundle {root} is not a plain file inside it; do not use this bundle")
    return path


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


_KINDS = {".gguf": "a GGUF file", ".onnx": "an ONNX file", ".safetensors": "a file of weights"}


def read_manifest(folder: Path) -> Manifest:
    """manifest.json of a bundle, as it was sealed. Raises BundleError, in words for what is no bundle at all."""
    path = folder / MANIFEST
    if not folder.is_dir():
        found = f"is {_KINDS.get(folder.suffix, 'not a folder')}" if folder.exists() else "does not exist"
        raise BundleError(f"{folder} {found}; give the folder that `edgeprune export` wrote")
    if not path.is_file() and (folder / "config.json").is_file():
        step = command("edgeprune", "export", folder, "--budget", 0.2, "--out", f"{folder.absolute().name}.bundle")
        raise BundleError(f"{folder} is a checkpoint, not a bundle; make one with `{step}`")
    if not path.is_file():
        raise BundleError(
            f"{folder} has no {MANIFEST}, so it is not a sealed bundle; make one with `edgeprune export MODEL --budget 0.2 --out MY.bundle`"
        )
    if contained(folder, MANIFEST).stat().st_size > LARGEST_MANIFEST_BYTES:
        raise BundleError(
            f"{path} is larger than {LARGEST_MANIFEST_BYTES >> 20} MiB, so it is no manifest; export the bundle again"
        )
    written = path.read_bytes()
    try:
        raw = msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is not valid JSON ({error}); export the bundle again") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise BundleError(f"{path} states no schema number; it was not written by edgeprune")
    if schema > SCHEMA:
        raise BundleError(f"bundle {folder} has schema {schema}, this runtime reads {SCHEMA}; upgrade edgeprune")
    if schema < SCHEMA:
        raise BundleError(f"bundle {folder} has schema {schema}, this runtime reads {SCHEMA}; export the bundle again")
    digest = require_inside(folder, folder / DIGEST)
    if not digest.is_file() or hashlib.sha256(written).hexdigest() not in digest.read_text(
        encoding="ascii", errors="replace"
    ):
        raise BundleError(
            f"{path} is not the manifest that was sealed ({DIGEST} differs); copy or export the bundle again"
        )
    try:
        return msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{path} does not match schema {SCHEMA}: {error}; export the bundle again") from error
