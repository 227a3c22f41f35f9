"""Which GPU of several is measured: the one that runs use, CUDA's device 0, whatever NVML's own order is.

CUDA says its place on the PCI bus, where its bindings are installed. Else CUDA_VISIBLE_DEVICES says it by UUID, or by an index where CUDA and
NVML count alike: with one GPU, with CUDA_DEVICE_ORDER=PCI_BUS_ID, or with GPUs of one kind (CUDA puts the fastest first otherwise).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeprune_runtime.errors import MeasurementError

_BUS_ID_CHARACTERS = 32
_ORDER = "set CUDA_DEVICE_ORDER=PCI_BUS_ID, for runs too, or name the GPU by its UUID (`nvidia-smi -L`) in CUDA_VISIBLE_DEVICES"


def device_of_runs(library: Any, environ: Mapping[str, str], load: Callable[[str], Any]) -> Any:
    """NVML's handle of CUDA's device 0. Raises MeasurementError where that is no GPU, or nobody can say which; the library's NVMLError."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    first = None if visible is None else visible.partition(",")[0].strip()
    if first in ("", "-1"):
        raise MeasurementError(f"CUDA_VISIBLE_DEVICES={visible} hides every GPU from runs; leave it out, or name a GPU")
    bus = _bus_id(load)
    if bus is not None:
        return library.nvmlDeviceGetHandleByPciBusId(bus)
    if first is not None and not first.isdecimal():
        return _by_uuid(library, first)
    handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
    index = 0 if first is None else int(first)
    if index >= len(handles):
        raise MeasurementError(
            f"CUDA_VISIBLE_DEVICES names GPU {index}, NVML sees {len(handles)}; name one that is there"
        )
    alike = len(handles) == 1 or len({library.nvmlDeviceGetName(handle) for handle in handles}) == 1
    if not alike and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise MeasurementError(
            f"{len(handles)} GPUs of several kinds, and nobody says which one CUDA counts as {index}; {_ORDER}"
        )
    return handles[index]


def _bus_id(load: Callable[[str], Any]) -> bytes | None:
    """Where CUDA's device 0 sits, such as b"0000:3B:00.0"; None where CUDA cannot be asked."""
    try:
        status, *found = load("cuda.bindings.runtime").cudaDeviceGetPCIBusId(_BUS_ID_CHARACTERS, 0)
    except (ImportError, RuntimeError, AttributeError):
        return None
    if int(status) != 0 or not found:
        return None
    bus = found[0] if isinstance(found[0], bytes) else str(found[0]).encode()
    return bus.rstrip(b"\0") or None


def _by_uuid(library: Any, wanted: str) -> Any:
    """The GPU whose UUID begins so: CUDA takes shortened ones too."""
    if wanted.startswith("MIG-"):
        return library.nvmlDeviceGetHandleByUUID(wanted.encode())
    fitting = []
    for i in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(i)
        uuid = library.nvmlDeviceGetUUID(handle)
        if (uuid.decode() if isinstance(uuid, bytes) else str(uuid)).startswith(wanted):
            fitting.append(handle)
    if len(fitting) != 1:
        count = "no GPU" if not fitting else f"{len(fitting)} GPUs"
        raise MeasurementError(
            f"CUDA_VISIBLE_DEVICES names {wanted!r}, which {count} that NVML sees; `nvidia-smi -L` lists them"
        )
    return fitting[0]
