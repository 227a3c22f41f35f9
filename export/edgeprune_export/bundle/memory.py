"""Keep freed weights from staying with the process.

An export allocates and frees thousands of matrices, streamed in one after the other. glibc serves allocations below a threshold from
its arenas, and raises that threshold to the size of what was freed, up to 32 MiB; freed matrices then lie below live small blocks
and are not returned to the kernel. With fixed thresholds every matrix is a mapping of its own, whose memory goes back when it is
freed.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_THRESHOLD_BYTES = 1 << 20


def return_freed_memory() -> None:
    """Fix glibc's thresholds at 1 MiB, for the whole process and for good; elsewhere (musl, macOS, Windows) do nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; or a platform whose C library has no handle
        return
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        mallopt(option, _THRESHOLD_BYTES)
