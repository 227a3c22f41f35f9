"""A backend of your own: ONNX Runtime on the CPU, with the time of every run of every graph.

    from edgeprune_runtime.backends import BACKENDS
    BACKENDS.add("timed", create)
    Model.open("reference.bundle", backend="timed")

A backend opens graphs as sessions and owns the memory they read and write. This one takes both from one that is there; `Backend` and
`Session` in edgeprune_runtime/backends/__init__.py say what else can differ.
"""

import time
from collections import defaultdict

from edgeprune_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu


class Timed(OnnxRuntimeCpu):
    name = "timed"

    def __init__(self, threads):
        super().__init__(threads)
        self.seconds = defaultdict(list)  # by graph

    def open(self, root, graph, *, resident):
        session = super().open(root, graph, resident=resident)
        run, seconds = session.run, self.seconds[graph.name]

        def timed():
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)

        session.run = timed
        return session


def create(name, threads):
    return Timed(threads)
