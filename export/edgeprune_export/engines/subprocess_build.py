"""Build one engine in a process of its own, whose memory is gone when it ends: the low-memory way."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

from edgeprune.errors import ExportError
from edgeprune_export.engines.builder import Job, build_engine
from edgeprune_runtime.backends import tensorrt_api
from edgeprune_runtime.backends.tensorrt_api import TensorRt


def build_apart(trt: TensorRt, job: Job, advance: Callable[[], None]) -> float:
    """As `build_engine`. Raises ExportError also when the process is killed, as the kernel does when memory runs out."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, trt.api.module, job), daemon=True)
    process.start()
    there.close()
    outcome: float | str | None = None
    try:
        while True:
            said = here.recv()
            if said is None:
                advance()
            else:
                outcome = said
    except EOFError:
        process.join()
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    if isinstance(outcome, float):
        return outcome
    job.engine.unlink(missing_ok=True)
    killed = f"its process ended with exit code {process.exitcode}, which often means that memory ran out; close other programs"
    raise ExportError(f"{job.source.name} was not built: {outcome or killed}")


def _work(pipe: Connection, module: str, job: Job) -> None:
    try:
        pipe.send(build_engine(tensorrt_api.load(module), job, lambda: pipe.send(None)))
    except ExportError as error:
        pipe.send(str(error))
    except Exception as error:  # such as a full disk; the parent has nothing else to go by
        pipe.send(f"{type(error).__name__}: {error}")
