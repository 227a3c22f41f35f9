"""Device profiles as TOML files: those that come with the package, and a user's own."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import msgspec

from edgeprune_profiles.boards.device import Device, in_mode
from edgeprune_runtime.errors import MeasurementError
from edgeprune_runtime.files import write_whole
from edgeprune_runtime.registry import unknown

_FOLDER = "devices"
TOML = "tomllib" if sys.version_info >= (3, 11) else "tomli"  # the base install brings tomli for Python 3.10


@cache
def device_names() -> tuple[str, ...]:
    """Names of the profiles in the package, sorted."""
    folder = resources.files("edgeprune_profiles.boards") / _FOLDER
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_device(name: str) -> Device:
    """A profile by NAME, NAME@MODE or the path of a file. Raises MeasurementError for one that is unknown or broken."""
    if name.endswith(".toml"):
        return read_device(Path(name))
    board, _, mode = name.partition("@")
    if board not in device_names():
        raise MeasurementError(
            f"{unknown('device', board, device_names(), _alike(board))}, or give the path of a .toml file of your own"
        )
    return in_mode(_shipped(board), mode) if mode else _shipped(board)


def _alike(name: str) -> str | None:
    """The device that holds every word and number of a name, however it is written ("RTX 4090", "Jetson AGX Orin 32 GB"), if any."""
    words = set(re.findall(r"[a-z]+|\d+", name.lower())) - {"nvidia", "jetson", "geforce", "gb", "developer"}
    held = [each for each in device_names() if words <= set(re.findall(r"[a-z]+|\d+", each))]
    return min(held, key=len, default=None) if words else None


@cache
def _shipped(name: str) -> Device:
    text = (resources.files("edgeprune_profiles.boards") / _FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    return device_from_text(text, f"{name}.toml")


def read_device(path: Path) -> Device:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MeasurementError(f"cannot read the device file {path}: {error}") from error
    return device_from_text(text, str(path))


def device_from_text(text: str, origin: str) -> Device:
    """Parse and check: known fields, known units, every figure with a source that is there, no source without a figure."""
    toml = import_module(TOML)
    try:
        device = msgspec.convert(toml.loads(text), Device)
    except (toml.TOMLDecodeError, msgspec.ValidationError) as error:
        raise MeasurementError(
            f"{origin} is not a device file: {error}; docs/devices.md says what one holds"
        ) from error
    except RecursionError as error:
        raise MeasurementError(
            f"{origin} nests values too deeply for a device file; docs/devices.md says what one holds"
        ) from error
    cited = {figure.source for _, figure in device.figures()}
    if missing := cited - set(device.sources):
        raise MeasurementError(f"{origin} cites {', '.join(sorted(missing))}, which [sources] does not hold; add it")
    if unused := set(device.sources) - cited:
        raise MeasurementError(
            f"{origin} has the sources {', '.join(sorted(unused))}, which no figure cites; remove them"
        )
    if wrong := [name for name, figure in device.figures() if not _positive(figure.value)]:
        raise MeasurementError(f"{origin}: {', '.join(wrong)} must be above 0; leave out what is unknown")
    if sum(mode.of_the_peaks for mode in device.power_modes) > 1:
        raise MeasurementError(f"{origin} has several power modes that its peaks belong to; mark one with of_the_peaks")
    return device


def write_device(device: Device, path: Path) -> None:
    """Write a profile that `load_device` reads."""
    write_whole(path, text_of(device).encode())


def text_of(device: Device) -> str:
    """The device as TOML; what is unknown or empty is left out."""
    plain = {key: value for key, value in msgspec.to_builtins(device).items() if value not in (None, {}, [], ())}
    scalars = [f"{key} = {_inline(value)}" for key, value in plain.items() if not isinstance(value, dict)]
    tables = [_table(key, value) for key, value in plain.items() if isinstance(value, dict) and key != "sources"]
    tables += [_table(f"sources.{key}", value) for key, value in plain["sources"].items()]
    return "\n\n".join(["\n".join(scalars), *(table for table in tables if table)]) + "\n"


def _table(name: str, fields: dict[str, Any]) -> str:
    lines = [f"{key} = {_inline(value)}" for key, value in fields.items() if value not in (None, {})]
    return "\n".join([f"[{name}]", *lines]) if lines else ""


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        held = {key: part for key, part in value.items() if part not in (None, {}, "") or key in ("url", "source")}
        return "{ " + ", ".join(f"{key} = {_inline(part)}" for key, part in held.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(part) for part in value) + "]"
    return msgspec.json.encode(value).decode()  # strings, numbers and booleans are written alike in JSON and TOML


def _positive(value: float | str) -> bool:
    return bool(value) if isinstance(value, str) else value > 0
