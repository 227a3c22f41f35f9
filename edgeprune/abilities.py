"""What this machine can do with edgeprune, in the four words that a newcomer asks about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from edgeprune_runtime.backends import created, tensorrt_api
from edgeprune_runtime.backends.device import DeviceBackend
from edgeprune_runtime.errors import BackendUnavailable
from edgeprune_runtime.installed import how_to_install

EXPORTING = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "accelerate", "safetensors")
LOWERING = ("onnx", "onnx_ir")


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that this machine can do, or cannot; None = unknown. `why`: the reason and what to do, unless it can."""

    name: str
    can: bool | None
    why: str | None


def abilities(backends: Mapping[str, str | None], base: str | None) -> tuple[Ability, ...]:
    """backends: by name, why it is not usable, None where it is. base: what the base install lacks, None: nothing."""
    cpu = {name: why for name, why in backends.items() if not isinstance(created(name), DeviceBackend)}
    gpu = {name: why for name, why in backends.items() if name not in cpu}
    return (
        _ability("export checkpoints", lambda: base or _missing(EXPORTING)),
        _ability("run bundles on the CPU", lambda: base or _none_of(cpu)),
        _ability("build engines for RTX GPUs", lambda: base or _why_no_rtx()),
        _ability("run bundles on a GPU", lambda: base or _none_of(gpu)),
    )


def missing(modules: tuple[str, ...]) -> list[str]:
    """Those that are not installed."""
    return [name for name in modules if find_spec(name) is None]


def asked(ask: Callable[[], str | None]) -> tuple[bool | None, str | None]:
    """What `ask` answers, None for yes and a reason for no; (None, the failure) where it fails: then nobody knows."""
    try:
        why = ask()
    except Exception as error:  # noqa: BLE001  another's library on a machine that it does not expect
        return None, f"it could not be found out ({type(error).__name__}: {error})"
    return why is None, why


def _ability(name: str, ask: Callable[[], str | None]) -> Ability:
    return Ability(name, *asked(ask))


def _missing(modules: tuple[str, ...]) -> str | None:
    lacking = missing(modules)
    return f"not installed: {', '.join(lacking)}; {how_to_install(*lacking)}" if lacking else None


def _none_of(backends: Mapping[str, str | None]) -> str | None:
    """None where one is usable, else what stands in the way of the one that came furthest: a package is easier to mend than a device."""
    if not backends or None in backends.values():
        return None if backends else "there is no backend for it"
    reasons = [why for why in backends.values() if why is not None]
    return next((why for why in reasons if "no CUDA device" in why), reasons[0])


def _why_no_rtx() -> str | None:
    if (why := _missing(LOWERING)) is not None:
        return why
    try:
        tensorrt_api.load("tensorrt_rtx")
    except BackendUnavailable as error:
        return str(error)
    return None
