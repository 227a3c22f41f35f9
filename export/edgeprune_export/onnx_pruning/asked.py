"""What is asked of the pruning of an ONNX file, and what can be refused before the file is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ExportError, PlanError
from edgeprune_runtime.registry import unknown

OnnxMetric = Literal["params", "macs"]
ScoreFunction = Literal["magnitude", "random", "obs"]


@dataclass(frozen=True)
class OnnxTarget:
    """What shall be left: `share` of the whole graph's parameters or multiply-accumulates."""

    metric: OnnxMetric
    share: float

    def __post_init__(self) -> None:
        if self.metric not in get_args(OnnxMetric) or not 0 < self.share < 1:
            raise PlanError(
                f"the target {self.metric}={self.share} cannot be met; give params or macs a share between 0 and 1, such as params=0.7"
            )


def require_score(importance: str) -> None:
    """Raise PlanError for an importance that is not for ONNX files."""
    if importance not in get_args(ScoreFunction):
        raise PlanError(unknown("importance", importance, get_args(ScoreFunction)))


def require_source(source: Path) -> None:
    """Raise ExportError where there is no file."""
    if not source.is_file():
        raise ExportError(f"{source} is not a file; give the path of an .onnx file")


def require_free_file(out: Path, *, force: bool) -> None:
    """Raise ExportError where `out` may not be written."""
    if (out.exists() or out.is_symlink()) and not force:
        raise ExportError(f"{out} exists; choose another file or replace it with --force")
    if out.is_dir() or not out.parent.is_dir():
        raise ExportError(f"{out} cannot be written; its folder must exist, and it must not be a folder itself")


def read_inputs(path: Path) -> list[NDArray[Any]]:
    """Calibration inputs [n, ...] of a .npy file as the graph takes them, one at a time. No pickles."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PlanError(
            f"{path} cannot be read ({error}); for an ONNX file, --images is a .npy array [n, ...] of inputs as the graph takes them"
        ) from error
    return [array[i : i + 1] for i in range(len(array))]
