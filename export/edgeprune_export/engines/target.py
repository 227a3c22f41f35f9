"""What engines are built for: `rtx:sm89,sm120` ahead of time, `rtx` and `tensorrt` on the device at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeprune.errors import PlanError

Runtime = Literal["tensorrt", "tensorrt_rtx", "onnxruntime"]
#: Compute capabilities that TensorRT for RTX builds for (1.4 to 1.7), with a board of each.
RTX_CAPABILITIES = {
    "sm75": "RTX 20, T4",
    "sm80": "A100",
    "sm86": "RTX 30",
    "sm89": "RTX 40, L4",
    "sm120": "RTX 50",
    "sm121": "GB10",
}
_NAMES: dict[str, Runtime] = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True)
class EngineTarget:
    """`capabilities` is empty for the device at hand."""

    runtime: Runtime
    capabilities: tuple[str, ...] = ()

    @property
    def ahead_of_time(self) -> bool:
        return bool(self.capabilities)


def target_from_text(text: str) -> EngineTarget:
    """Read a target. Raises PlanError."""
    name, colon, rest = text.partition(":")
    given = {part.strip().lower() for part in rest.split(",") if part.strip()}
    capabilities = tuple(sorted(given, key=lambda one: (len(one), one)))  # in one order, so that one set has one folder
    if name not in _NAMES or (colon and not capabilities):
        raise PlanError(
            f"target {text!r} is unknown; use rtx:sm89,sm120 (ahead of time), or rtx, tensorrt or onnxruntime on the device"
        )
    if capabilities and name != "rtx":
        raise PlanError(
            f"{name} engines are built on the device that runs them; run `edgeprune build BUNDLE --target {name}` there, without {rest!r}"
        )
    for one in capabilities:
        require_rtx(one)
    return EngineTarget(_NAMES[name], capabilities)


def require_rtx(capability: str) -> None:
    """Raises PlanError for a compute capability that TensorRT for RTX does not build for."""
    if capability in RTX_CAPABILITIES:
        return
    board = {"sm87": "Jetson Orin", "sm110": "Jetson Thor", "sm101": "Jetson Thor", "sm90": "Hopper"}.get(capability)
    cure = (
        f"{capability} is {board}: build there with `--target tensorrt`"
        if board
        else "`nvidia-smi --query-gpu=compute_cap --format=csv` says which one a GPU has"
    )
    known = ", ".join(f"{sm} ({name})" for sm, name in RTX_CAPABILITIES.items())
    raise PlanError(f"TensorRT for RTX does not build for {capability!r}; it knows {known}; {cure}")
