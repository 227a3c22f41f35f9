"""A CUDA device through NVIDIA's own `cuda-bindings`: memory, one stream, copies and graphs.

Everything is queued on one stream, so order needs no further care: a buffer is written, runs are queued, and only reading waits. What the host
gives passes through pinned memory that belongs to the buffer; an event keeps a later write from overtaking the copy of an earlier one.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.installed import how_to_install
from edgeprune_runtime.spec import bytes_of

_MODULE = Path("/sys/module/nvidia/version")  # of the kernel's part of the driver, where it says so


@dataclass(eq=False)
class DeviceBuffer:
    """Device memory of a fixed shape. `owner` keeps the allocation alive that `pointer` lies in."""

    shape: tuple[int, ...]
    dtype: str
    pointer: int
    owner: object
    staging: np.ndarray | None = field(default=None, repr=False)
    copied: Any = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        return bytes_of(self.shape, self.dtype)


class _Allocation:
    """Memory that is given back when nothing refers to it any more."""

    def __init__(self, pointer: int, free: Callable[[int], object]) -> None:
        self.pointer = pointer
        self._finalizer = weakref.finalize(self, free, pointer)


def _install() -> str:
    return f"install it with {how_to_install('cuda-bindings')}; on a Jetson with the requirement file of its JetPack, see docs/jetson.md"


def runtime() -> Any:
    """NVIDIA's runtime bindings. Raises BackendUnavailable where they are not installed."""
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendUnavailable(f"the package cuda-bindings cannot be imported ({error}); {_install()}") from error


def why_no_device() -> str | None:
    """None when a CUDA device answers, else a sentence. Asked before any TensorRT object is made: some versions crash without a device."""
    try:
        bindings = runtime()
        status, count = bindings.cudaGetDeviceCount()
    except BackendUnavailable as error:
        return str(error)
    except RuntimeError as error:  # the bindings could not load the driver's library
        return f"no NVIDIA driver answers ({error}); install the driver, or run on a machine with an NVIDIA GPU"
    if int(status) != 0:
        return (
            f"no CUDA device answers ({status.name}); install the NVIDIA driver, or run on a machine with an NVIDIA GPU"
        )
    return None if count else "the NVIDIA driver sees no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES"


class CudaDevice:
    """The current CUDA device and the stream that everything is queued on.

    waiting: let the stream wait for CUDA's default stream. Otherwise it does not, so that a library's work there cannot spoil a capture.
    """

    def __init__(self, *, waiting: bool = False) -> None:
        reason = why_no_device()
        if reason is not None:
            raise BackendUnavailable(reason)
        self._cuda = runtime()
        flags = self._cuda.cudaStreamDefault if waiting else self._cuda.cudaStreamNonBlocking
        self.stream = int(self._call("cudaStreamCreateWithFlags", flags))
        facts = self._call("cudaGetDeviceProperties", 0)
        name = facts.name
        self.name = (name.decode() if isinstance(name, bytes) else str(name)).strip("\0 ")
        self.capability = f"sm{facts.major}{facts.minor}"
        self.memory_bytes = int(facts.totalGlobalMem)
        cuda = int(self._call("cudaDriverGetVersion"))
        module = f"{_MODULE.read_text().strip()}, " if _MODULE.is_file() else ""
        self.driver = f"{module}CUDA {cuda // 1000}.{cuda % 1000 // 10}"

    def zeros(self, shape: tuple[int, ...], dtype: str) -> DeviceBuffer:
        size = max(bytes_of(shape, dtype), 1)
        pointer = int(self._call("cudaMalloc", size))
        buffer = DeviceBuffer(shape, dtype, pointer, _Allocation(pointer, self._cuda.cudaFree))
        self.clear(buffer)
        return buffer

    def clear(self, buffer: DeviceBuffer) -> None:
        self._call("cudaMemsetAsync", buffer.pointer, 0, buffer.nbytes, self.stream)

    def part(self, buffer: DeviceBuffer, row: int) -> DeviceBuffer:
        shape = (1, *buffer.shape[1:])
        return DeviceBuffer(shape, buffer.dtype, buffer.pointer + row * bytes_of(shape, buffer.dtype), buffer)

    def write(self, buffer: DeviceBuffer, value: np.ndarray) -> None:
        staging = self._staging(buffer)
        if buffer.copied is None:
            buffer.copied = self._call("cudaEventCreate")
        else:
            self._call("cudaEventSynchronize", buffer.copied)
        staging[: len(value)] = value
        size = math.prod((len(value), *buffer.shape[1:])) * staging.itemsize
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", buffer.pointer, staging.ctypes.data, size, kind, self.stream)
        self._call("cudaEventRecord", buffer.copied, self.stream)

    def read(self, buffer: DeviceBuffer) -> np.ndarray:
        staging = self._staging(buffer)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", staging.ctypes.data, buffer.pointer, buffer.nbytes, kind, self.stream)
        self.synchronize()
        return staging

    def written(self, buffer: DeviceBuffer) -> np.ndarray:
        """What the host wrote last."""
        return self._staging(buffer)

    def copy(self, source: DeviceBuffer, target: DeviceBuffer, row: int = 0) -> None:
        """Copy all of `source` into `target` from its row on."""
        pointer = target.pointer + row * bytes_of(target.shape[1:], target.dtype)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", pointer, source.pointer, source.nbytes, kind, self.stream)

    def append(self, cache: DeviceBuffer, rows: DeviceBuffer, start: int) -> None:
        """Copy rows [1, G, R, d] into cache [1, G, C, d] from index `start` on, all heads in one strided copy."""
        groups, count, width = rows.shape[1:]
        pitch = cache.nbytes // groups
        line = bytes_of((count, width), rows.dtype)
        target = cache.pointer + start * bytes_of((width,), rows.dtype)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpy2DAsync", target, pitch, rows.pointer, line, line, groups, kind, self.stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self.stream)

    def captured(self, queue: Callable[[], None]) -> Callable[[], object] | None:
        """What `queue` puts on the stream, as one CUDA graph to launch again and again; None where it cannot be captured.

        Nothing of it has run then: the caller queues it as before.
        """
        modes = self._cuda.cudaStreamCaptureMode
        try:
            self._call("cudaStreamBeginCapture", self.stream, modes.cudaStreamCaptureModeThreadLocal)
            try:
                queue()
            finally:
                status, graph = self._cuda.cudaStreamEndCapture(self.stream)
            if int(status) != 0 or not graph:
                return None
            ready = self._call("cudaGraphInstantiate", graph, 0)
        except BackendUnavailable:
            return None
        return lambda: self._call("cudaGraphLaunch", ready, self.stream)

    def _staging(self, buffer: DeviceBuffer) -> np.ndarray:
        if buffer.staging is None:
            pointer = int(self._call("cudaHostAlloc", max(buffer.nbytes, 1), 0))
            raw = (ctypes.c_byte * buffer.nbytes).from_address(pointer)
            raw.owner = _Allocation(pointer, self._cuda.cudaFreeHost)  # type: ignore[attr-defined]
            buffer.staging = np.frombuffer(memoryview(raw), np.dtype(buffer.dtype)).reshape(buffer.shape)
            buffer.staging[...] = 0
        return buffer.staging

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            advice = "check the driver, then open the model again"
            if name in ("cudaMalloc", "cudaHostAlloc"):
                size, free = arguments[0], self._cuda.cudaMemGetInfo()[1]
                advice = f"{size / 1e6:.0f} MB were asked for, {free / 1e6:.0f} MB are free: close other programs, or take a smaller budget"
            raise BackendUnavailable(f"{name} failed with {status.name}; {advice}")
        return values[0] if len(values) == 1 else values or None
