"""A method and its calibrated settings as a small JSON file: written by `edgeprune calibrate`, read by `edgeprune export --settings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgeprune.errors import PlanError
from edgeprune_runtime.files import write_json

SCHEMA = 1


class CalibratedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was calibrated, on what, and what came out. `statistics`: mean of each over the pictures."""

    schema: int
    method: str
    settings: dict[str, float]
    statistics: dict[str, float]
    pictures: int
    seed: int
    model: str
    command: str


def read_settings(path: Path) -> CalibratedSettings:
    """Raises PlanError for a file that is missing, damaged or newer."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CalibratedSettings)
    except OSError as error:
        raise PlanError(f"{path} cannot be read ({error.strerror}); make it with `edgeprune calibrate`") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is no settings file ({error}); make it with `edgeprune calibrate`") from error
    if found.schema != SCHEMA:
        raise PlanError(f"{path} has schema {found.schema}, this version reads {SCHEMA}; calibrate again")
    return found


def with_calibrated(
    stored: CalibratedSettings | None, methods: Sequence[str], settings: Mapping[str, float]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Methods, none where neither names one, and settings: what is given wins over what was calibrated."""
    names = tuple(methods) or ((stored.method,) if stored else ())
    return names, {**(stored.settings if stored else {}), **settings}


def write_settings(path: Path, found: CalibratedSettings) -> None:
    """Whole or not at all. Raises OutputError."""
    write_json(path, found)
