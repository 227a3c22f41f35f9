"""edgeprune devices: what boards are, each figure with its source; or a profile of this machine's processor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.complete import device_names_like
from edgeprune.cli.console import Json, emit, errors_as_one_line, note, out, say
from edgeprune.cli.options import Force, given, out_option
from edgeprune.cli.tables import Column, show_table

if TYPE_CHECKING:
    from edgeprune_profiles.boards.device import Device, Fact, Figure


def devices(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="One board, NAME@MODE, or a .toml file, in full.",
            show_default="a table of all",
            autocompletion=device_names_like,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="List what is stale, what only repeats other sources, and what is unknown.")
    ] = False,
    older_than: Annotated[
        int, typer.Option("--older-than", min=1, help="Months after which prices and software versions are stale.")
    ] = 12,
    measure_cpu: Annotated[
        bool, typer.Option("--measure-cpu", help="Measure this processor for some seconds and write its profile.")
    ] = False,
    cpu_threads: Annotated[
        int, typer.Option("--cpu-threads", min=1, max=256, help="Threads that --measure-cpu uses.")
    ] = 1,
    to: Annotated[Path | None, out_option("NAME.toml or this-cpu.toml")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Show device profiles: peak rates, memory, power modes, software, price. What no source was found for is unknown."""
    with errors_as_one_line():
        from edgeprune_profiles.boards.device_file import device_names, load_device

        if not measure_cpu and (to is not None or given(context, "cpu_threads")):
            raise typer.BadParameter("--cpu-threads and --out belong to --measure-cpu")
        if given(context, "older_than") and not check:
            raise typer.BadParameter("--older-than belongs to --check")
        if check and measure_cpu:
            raise typer.BadParameter("--check and --measure-cpu are two things; give one of them")
        chosen = [load_device(each) for each in ([name] if name is not None else device_names()) if not measure_cpu]
        if measure_cpu:
            _measure(name, cpu_threads, to, force, json)
        elif check:
            _check(chosen, older_than, json)
        elif name is not None:
            emit(chosen[0]) if json else _one(chosen[0])
        elif json:
            emit({"devices": chosen})
        else:
            _table(chosen)


def _measure(name: str | None, threads: int, to: Path | None, force: bool, json: bool) -> None:
    from edgeprune_profiles.boards.device_file import device_names, write_device
    from edgeprune_runtime.claims import require_new

    if name in device_names():
        raise typer.BadParameter(f"{name} is a board of the list; give this processor a name of its own")
    path = to or Path(f"{name or 'this-cpu'}.toml")
    require_new(path, force=force)
    from edgeprune_profiles.boards.measure_cpu import measure_cpu
    from edgeprune_runtime.installed import command
    from edgeprune_runtime.meters.environment import environment

    device = measure_cpu(name or "this-cpu", environment(), threads)
    write_device(device, path)
    note(f"{path} written; `{command('edgeprune', 'project', 'BUNDLE', '--device', path)}` uses it")
    emit(device) if json else _one(device)


def _check(devices: list[Device], months: int, json: bool) -> None:
    import datetime

    from edgeprune_profiles.boards.doubts import figure_doubts

    found = [figure_doubts(device, datetime.date.today(), months) for device in devices]
    if json:
        emit({"older_than_months": months, "devices": found})
        return
    say(
        f"{len(found)} devices: {sum(bool(one.stale) for one in found)} with a price or a version older than {months} months, "
        f"{sum(bool(one.quoted) for one in found)} with figures that only repeat what others say, "
        f"{sum(bool(one.unknown) for one in found)} with unknown ones, {sum(not one.any for one in found)} with none of these."
    )
    out.print()
    for one in found:
        if not one.any:
            continue
        out.print(one.device, style="bold", markup=False, highlight=False)
        stale = ", ".join(f"{name} ({date})" for name, date in one.stale.items())
        for word, text in (("stale", stale), ("quoted", ", ".join(one.quoted)), ("unknown", ", ".join(one.unknown))):
            if text:
                say(f"  {word}: {text}", indent="    ")


def _table(devices: list[Device]) -> None:
    from edgeprune_profiles.report import units

    def marked(device: Device, figure: Figure | Fact | None, text: str) -> str:
        return "?" if figure is None else text + ("*" if device.quoted(figure) else "")

    rows = []
    for device in devices:
        half, whole = device.peak_per_s.get("fp16"), device.peak_per_s.get("int8")
        size, band, price = device.memory.size_bytes, device.memory.bandwidth_bytes_per_s, device.market.price_usd
        mode, found = device.mode, device.software.tensorrt
        rows.append(
            [
                device.name,
                marked(device, half, units.rate(half.value / 1e12 if half else None)),
                marked(device, whole, units.rate(whole.value / 1e12 if whole else None)),
                marked(device, size, f"{size.value / 2**30:.4g}" if size else ""),
                marked(device, band, units.rate(band.value / 1e9 if band else None)),
                marked(device, mode.power_w if mode else None, f"{device.power_w:g}" if mode else ""),
                marked(device, found, found.value if found else ""),
                marked(device, price, f"{price.value:.0f}" if price else ""),
                f"{price.kind or units.UNKNOWN}, {device.dated(price)[:7]}" if price else "",
            ]
        )
    columns = [
        Column("device", left=True),
        Column("fp16 T/s"),
        Column("int8 T/s", rank=4),
        Column("GiB"),
        Column("GB/s"),
        Column("W"),
        Column("TensorRT", rank=3),
        Column("USD"),
        Column("what for", rank=1, left=True),
    ]
    show_table("Devices (dense operations per second, in trillions)", columns, rows)
    say(
        "* repeated by others, not read where it was first said; ? unknown. USD: a module at 1000 units, a developer kit, a card without its "
        "computer, a bare processor or a whole computer, and since when. `edgeprune devices NAME` names every source.",
        style="dim",
    )


def _one(device: Device) -> None:
    out.print(device.name, style="bold", markup=False, highlight=False)
    say(device.title)
    say(f"{device.kind}, {'unified memory' if device.unified else 'memory of its own'}")
    rows = [
        [
            name,
            _written(name, figure.value),
            figure.source + ("*" if device.quoted(figure) else ""),
            "; ".join(part for part in (figure.how, _bought(device, figure)) if part),
        ]
        for name, figure in device.figures()
    ]
    columns = [
        Column("figure", left=True),
        Column("value", left=True),
        Column("source", left=True),
        Column("how", left=True, wraps=True),
    ]
    show_table("Figures", columns, rows)
    for key, source in device.sources.items():
        say(f"{key}{'*' if source.quoted else ''}: {source.title}, {source.date}. {source.url}".rstrip(), indent="    ")
    if any(source.quoted for source in device.sources.values()):
        say("* repeats what others say, which itself was not read", style="dim")
    for sentence in device.notes:
        say(f"note: {sentence}", indent="    ")


def _bought(device: Device, figure: Figure | Fact) -> str:
    from edgeprune_profiles.boards.decision.sentences import PRICE_KINDS
    from edgeprune_profiles.boards.device import MarketPrice

    if not isinstance(figure, MarketPrice) or not figure.kind:
        return ""
    return f"{PRICE_KINDS[figure.kind]}, {device.dated(figure)}"


def _written(name: str, value: float | str) -> str:
    """A figure with its unit, which follows from its name."""
    from edgeprune_profiles.report import units

    if isinstance(value, str):
        return value
    if "bandwidth" in name:
        return f"{value / 1e9:.4g} GB/s"
    if name.startswith("peak"):
        return f"{value / 1e12:.4g} T/s"
    for start, unit in (("power", "W"), ("price", "USD")):
        if name.startswith(start):
            return f"{value:.4g} {unit}"
    return units.size(round(value)) if name == "memory size" else units.seconds(value)
