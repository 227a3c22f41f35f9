"""edgeprune devices: what boards are, each figure with its source; or a profile of this machine's processor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, note, out
from edgeprune.cli.options import given, out_option
from edgeprune.cli.plain import labelled
from edgeprune.cli.tables import show_table

if TYPE_CHECKING:
    from edgeprune_profiles.boards.device import Device


def devices(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="One board, NAME@MODE, or a .toml file, in full.", show_default="a table of all"),
    ] = None,
    measure_cpu: Annotated[
        bool, typer.Option("--measure-cpu", help="Measure this processor for some seconds and write its profile.")
    ] = False,
    cpu_threads: Annotated[
        int, typer.Option("--cpu-threads", min=1, max=256, help="Threads that --measure-cpu uses.")
    ] = 1,
    to: Annotated[Path | None, out_option("NAME.toml or this-cpu.toml")] = None,
    json: Json = False,
) -> None:
    """Show device profiles: peak rates, memory, power modes, software, price. What no source was found for is unknown."""
    with errors_as_one_line():
        from edgeprune_profiles.boards.device_file import device_names, load_device, write_device

        if not measure_cpu and (to is not None or given(context, "cpu_threads")):
            raise typer.BadParameter("--cpu-threads and --out belong to --measure-cpu")
        if measure_cpu:
            from edgeprune_profiles.boards.measure_cpu import measure_cpu as measure
            from edgeprune_runtime.installed import command
            from edgeprune_runtime.meters.environment import environment

            if name in device_names():
                raise typer.BadParameter(f"{name} is a board of the list; give this processor a name of its own")
            device = measure(name or "this-cpu", environment(), cpu_threads)
            path = to or Path(f"{device.name}.toml")
            write_device(device, path)
            note(f"{path} written; `{command('edgeprune', 'project', 'BUNDLE', '--device', path)}` uses it")
            emit(device) if json else _one(device)
        elif name is not None:
            emit(load_device(name)) if json else _one(load_device(name))
        elif json:
            emit({"devices": [load_device(each) for each in device_names()]})
        else:
            _table([load_device(each) for each in device_names()])


def _table(devices: list[Device]) -> None:
    from edgeprune_profiles.report import units

    head = ["device", "fp16 TFLOPS", "int8 TOPS", "memory", "bandwidth", "power", "TensorRT", "price"]
    rows = []
    for device in devices:
        fp16, int8 = device.peak_per_s.get("fp16"), device.peak_per_s.get("int8")
        size, bandwidth = device.memory.size_bytes, device.memory.bandwidth_bytes_per_s
        rows.append(
            [
                device.name,
                units.rate(fp16.value / 1e12 if fp16 else None),
                units.rate(int8.value / 1e12 if int8 else None),
                units.size(round(size.value) if size else None),
                f"{units.rate(bandwidth.value / 1e9)} GB/s" if bandwidth else units.UNKNOWN,
                f"{device.power_w:g} W" if device.power_w else units.UNKNOWN,
                device.software.tensorrt.value if device.software.tensorrt else units.UNKNOWN,
                f"{device.price_usd:.0f} USD" if device.price_usd else units.UNKNOWN,
            ]
        )
    show_table("Devices (dense rates; in the power mode named by `edgeprune devices NAME`)", head, rows, ["device"])


def _one(device: Device) -> None:
    out.print(labelled(f"{device.name}:", "bold", device.title))
    out.print(f"{device.kind}, {'unified memory' if device.unified else 'memory of its own'}", highlight=False)
    rows = [[name, _written(name, figure.value), figure.how, figure.source] for name, figure in device.figures()]
    show_table("Figures", ["figure", "value", "how", "source"], rows, ["figure", "value", "how", "source"])
    for key, source in device.sources.items():
        out.print(f"{key}: {source.title}, {source.date}. {source.url}", highlight=False, markup=False)
    for sentence in device.notes:
        out.print(f"note: {sentence}", highlight=False, markup=False)


def _written(name: str, value: float | str) -> str:
    """A figure with its unit, which follows from its name."""
    from edgeprune_profiles.report import units

    if isinstance(value, str):
        return value
    scales = (("peak", 1e12, "T/s"), ("memory bandwidth", 1e9, "GB/s"), ("power", 1, "W"), ("price", 1, "USD"))
    for start, scale, unit in scales:
        if name.startswith(start):
            return f"{value / scale:.4g} {unit}"
    return units.size(round(value)) if name == "memory size" else units.seconds(value)
