"""A device profile of this processor, measured in some seconds: peak rates, memory bandwidth, overhead of a graph node.

Each is the best of several tries, which is what a peak is: products of square matrices as ONNX Runtime computes them (float32,
and uint8 x int8), a copy of arrays that no cache holds (bytes read and bytes written), and a chain of nodes that do next to
nothing. With one thread processor time is taken, which other programs on the machine hardly disturb. Half precision and what a
server's other cores would add stay unknown.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from edgeprune_profiles.boards import micro_graphs
from edgeprune_profiles.boards.device import Device, DeviceMemory, Figure, Source
from edgeprune_runtime.meters.environment import Environment

_SIDE = 768
_COPY_BYTES = 256 << 20
_CHAIN = 400
_TRIES = 12
_CITED = "measured"


def measure_cpu(name: str, environment: Environment, threads: int = 1, tries: int = _TRIES) -> Device:
    """The profile of the machine this runs on, called `name`, with graphs on `threads` threads."""
    clock = time.process_time if threads == 1 else time.perf_counter
    operations = 2 * _SIDE**3
    chip = environment.cpu_model or "unknown processor"
    words = f"{threads} thread{'' if threads == 1 else 's'}"
    title = f"measured by `edgeprune devices --measure-cpu` on {chip}, {words}, onnxruntime {ort.__version__}"
    size = environment.memory_bytes
    return Device(
        name=name,
        title=f"{chip}, {words}",
        kind="cpu",
        unified=True,
        sources={_CITED: Source(title, "", datetime.date.today().isoformat())},
        peak_per_s={
            "fp32": Figure(operations / best(_float_product(threads), clock, tries), _CITED),
            "int8": Figure(operations / best(_integer_product(threads), clock, tries), _CITED),
        },
        memory=DeviceMemory(
            size_bytes=None if size is None else Figure(float(size), _CITED),
            bandwidth_bytes_per_s=Figure(2 * _COPY_BYTES / best(_copy(threads), clock, max(tries // 3, 2)), _CITED),
        ),
        launch_s=Figure(best(_chain(threads), clock, tries) / _CHAIN, _CITED),
    )


def best(work: Callable[[], object], clock: Callable[[], float], tries: int) -> float:
    """Shortest time of `tries` runs after one that does not count."""
    work()
    times = []
    for _ in range(tries):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def _float_product(threads: int) -> Callable[[], object]:
    session, square = _session(micro_graphs.matmul(), threads), np.full((_SIDE, _SIDE), 0.5, np.float32)
    return lambda: session.run(None, {"a": square, "b": square})


def _integer_product(threads: int) -> Callable[[], object]:
    session = _session(micro_graphs.matmul_integer(), threads)
    left, right = np.full((_SIDE, _SIDE), 3, np.uint8), np.full((_SIDE, _SIDE), 2, np.int8)
    return lambda: session.run(None, {"a": left, "b": right})


def _chain(threads: int) -> Callable[[], object]:
    session, one = _session(micro_graphs.chain(_CHAIN), threads), np.zeros(1, np.float32)
    return lambda: session.run(None, {"a": one})


def _copy(threads: int) -> Callable[[], object]:
    """A copy, by as many threads as the graphs have: NumPy lets go of Python's lock meanwhile."""
    source, target = np.ones(_COPY_BYTES // 8), np.zeros(_COPY_BYTES // 8)
    parts = [slice(i * source.size // threads, (i + 1) * source.size // threads) for i in range(threads)]

    def part(where: slice) -> None:
        np.copyto(target[where], source[where])

    def work() -> None:
        if threads == 1:
            part(parts[0])
            return
        workers = [threading.Thread(target=part, args=(where,)) for where in parts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return work


def _session(model: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
