"""What all backends on an NVIDIA GPU share: the device's memory, and which engines of a bundle they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from edgeprune_runtime.backends import Session
from edgeprune_runtime.backends.cuda import CudaDevice, DeviceBuffer
from edgeprune_runtime.bundle import read_manifest
from edgeprune_runtime.engines.sets import find_engines
from edgeprune_runtime.engines.spec import EngineKey, EngineSet
from edgeprune_runtime.spec import GraphSpec


class DeviceBackend(ABC):
    """The memory half of a backend, and its engines. The device is opened when it is first needed."""

    _waiting = False  # whether the stream waits for CUDA's default stream, where a library may work on its own account

    def __init__(self, name: str) -> None:
        self.name = name
        self._device: CudaDevice | None = None
        self._sets: dict[Path, tuple[Path, EngineSet]] = {}

    @abstractmethod
    def here(self) -> EngineKey:
        """What engines have to be made for. Raises BackendUnavailable."""

    @abstractmethod
    def why_unavailable(self) -> str | None: ...

    @abstractmethod
    def open(self, root: Path, graph: GraphSpec, *, resident: bool) -> Session: ...

    @property
    def device(self) -> CudaDevice:
        if self._device is None:
            self._device = CudaDevice(waiting=self._waiting)
        return self._device

    def require(self, root: Path, *, verify: bool) -> None:
        self.engine_set(root, verify=verify)

    def engine_set(self, root: Path, *, verify: bool = True) -> tuple[Path, EngineSet]:
        """The engines for the bundle in `root`. Raises EngineError where none fits."""
        root = root.resolve()
        if root not in self._sets:
            manifest = read_manifest(root)
            self._sets[root] = find_engines(root, manifest, self.here(), verify=verify)
        return self._sets[root]

    def use(self, root: Path, folder: Path, found: EngineSet) -> None:
        """Take these engines for the bundle in `root`, such as ones that are not sealed yet."""
        self._sets[root.resolve()] = folder, found

    def zeros(self, shape: tuple[int, ...], dtype: str) -> DeviceBuffer:
        return self.device.zeros(shape, dtype)

    def clear(self, buffer: DeviceBuffer) -> None:
        self.device.clear(buffer)

    def part(self, buffer: DeviceBuffer, row: int) -> DeviceBuffer:
        return self.device.part(buffer, row)

    def copy(self, source: DeviceBuffer, target: DeviceBuffer, row: int = 0) -> None:
        self.device.copy(source, target, row)

    def write(self, buffer: DeviceBuffer, value: np.ndarray) -> None:
        self.device.write(buffer, value)

    def wait(self) -> None:
        self.device.synchronize()

    def read(self, buffer: DeviceBuffer) -> np.ndarray:
        return self.device.read(buffer)
