"""Make a folder that looks to edgeprune's instruments like /sys and /proc of a Jetson, from a description in TOML.

    python tools/fake_board.py orin_nano --out /tmp/board        # or a TOML file of your own

A description has `[[monitor]]` (a power monitor: its `folder`, its `style` hwmon or iio, the driver's `files`, and
`channels` with label, mV and mA or mW), `[[zone]]` (thermal zones; `milli = "asleep"` cannot be read, like one that is
powered off), `[[cooler]]` (cooling devices) and `[files]` (any other file and its text). The numbers are made up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BOARDS = Path(__file__).with_suffix("")
THERMAL = "sys/class/thermal"


def describe(name: str) -> dict[str, Any]:
    """A description by its name, or by the path of a TOML file."""
    path = Path(name) if name.endswith(".toml") else BOARDS / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def names() -> list[str]:
    return sorted(path.stem for path in BOARDS.glob("*.toml"))


def build(board: dict[str, Any], root: Path) -> None:
    """Write the whole tree under `root`."""
    for name, content in files(board).items():
        path = root / name
        if content is None:  # a folder in the place of a file: reading it fails, for root too
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n", encoding="utf-8")


def files(board: dict[str, Any]) -> dict[str, str | None]:
    """Every file of the tree and what it holds; None = cannot be read."""
    found: dict[str, str | None] = {name: str(text) for name, text in board.get("files", {}).items()}
    for monitor in board.get("monitor", ()):
        found |= {f"{monitor['folder']}/{name}": str(text) for name, text in monitor.get("files", {}).items()}
        for channel in monitor["channels"]:
            style = _iio if monitor["style"] == "iio" else _hwmon
            found |= {f"{monitor['folder']}/{name}": str(text) for name, text in style(channel).items()}
    for number, zone in enumerate(board.get("zone", ())):
        found[f"{THERMAL}/thermal_zone{number}/type"] = zone["type"]
        found[f"{THERMAL}/thermal_zone{number}/temp"] = None if zone["milli"] == "asleep" else str(zone["milli"])
    for number, cooler in enumerate(board.get("cooler", ())):
        found[f"{THERMAL}/cooling_device{number}/type"] = cooler["type"]
        found[f"{THERMAL}/cooling_device{number}/cur_state"] = str(cooler["state"])
    return found


def _hwmon(channel: dict[str, Any]) -> dict[str, Any]:
    number = channel["number"]
    named = {"label": "in{}_label", "mv": "in{}_input", "ma": "curr{}_input", "uw": "power{}_input"}
    return {form.format(number): channel[key] for key, form in named.items() if key in channel}


def _iio(channel: dict[str, Any]) -> dict[str, Any]:
    number = channel["number"]
    named = {"label": "rail_name_{}", "mv": "in_voltage{}_input", "ma": "in_current{}_input", "mw": "in_power{}_input"}
    return {form.format(number): channel[key] for key, form in named.items() if key in channel}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", help=f"{', '.join(names())}, or a TOML file")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    given = parser.parse_args()
    if given.out.exists():
        parser.error(f"{given.out} exists; name a new folder")
    build(describe(given.board), given.out)
    print(f"{given.out} written")


if __name__ == "__main__":
    main()
