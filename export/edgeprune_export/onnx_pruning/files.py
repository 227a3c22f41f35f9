"""Read and write ONNX files: weights beside the graph or inside it, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import uses_external_data

from edgeprune.errors import ExportError
from edgeprune_export.bundle.seal import working
from edgeprune_export.onnx_pruning.asked import require_free_file, require_source
from edgeprune_runtime.files import flush, replace_file

_SMALLEST_EXTERNAL = 1024


def load(source: Path) -> tuple[onnx.ModelProto, bool]:
    """The model with its weights, and whether these were in a file beside it."""
    require_source(source)
    try:
        model = onnx.load(str(source), load_external_data=False)
        external = any(uses_external_data(tensor) for tensor in model.graph.initializer)
        onnx.checker.check_model(str(source))
        onnx.load_external_data_for_model(model, str(source.parent))
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"{source} is not a whole ONNX model ({reason}); export it again") from error
    return model, external


@contextmanager
def replacing(out: Path, *, force: bool) -> Iterator[Path]:
    """A path to write the model to; when the block ends well it, and a data file beside it, take their place at `out`."""
    require_free_file(out, force=force)
    with working(out, str(os.getpid()), force=force) as folder:
        yield folder / out.name
        _publish(folder, out)


def save(model: onnx.ModelProto, path: Path, *, external: bool) -> None:
    """Write and check a model; external: weights go to `<name>.data` beside it."""
    if external:
        onnx.save(
            model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=_SMALLEST_EXTERNAL
        )
    else:
        onnx.save(model, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the pruned graph does not pass ONNX's checker ({str(error).splitlines()[0]}); please report the source graph"
        ) from error


def _publish(folder: Path, out: Path) -> None:
    """The data file first, and never beside the graph of an older one: a kill leaves the old pair, nothing, or the new pair."""
    for path in folder.iterdir():
        flush(path)
    data = folder / f"{out.name}.data"
    if data.exists():
        out.unlink(missing_ok=True)
        replace_file(data, out.parent / data.name)
    replace_file(folder / out.name, out)
