"""Device profiles: every figure has a source, what is unknown is named when it is needed, and a broken file says what is wrong."""

from __future__ import annotations

import datetime
import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from edgeprune_profiles.boards.device import (
    Device,
    Figure,
    Market,
    MarketPrice,
    Source,
    board_of,
    in_mode,
    need_bandwidth,
    need_peak,
)
from edgeprune_profiles.boards.device_file import device_from_text, device_names, load_device, text_of, write_device
from edgeprune_profiles.boards.doubts import figure_doubts
from edgeprune_runtime.errors import MeasurementError
from tests.profiles.made_boards import board

WANTED = {
    "jetson-nano", "orin-nano-4gb", "orin-nano-8gb", "orin-nano-4gb-super", "orin-nano-8gb-super", "orin-nx-8gb", "orin-nx-16gb",
    "agx-orin-32gb", "agx-orin-64gb", "agx-thor", "rtx-3060", "rtx-4060-laptop", "rtx-4090", "rtx-5090", "t4", "l4", "p40",
    "raspberry-pi-5", "intel-n100", "x86-server", "dgx-spark", "orin-nano-8gb-super-kit", "agx-orin-64gb-kit", "xavier-nx-8gb",
    "agx-xavier-32gb", "rtx-4060", "rtx-4060-ti-16gb", "rtx-4070", "rtx-4070-super", "rtx-4080", "rtx-5060", "rtx-5060-ti-16gb",
    "rtx-5070", "rtx-5070-ti", "rtx-5080",
}  # fmt: skip

SMALL = """
name = "made"
title = "A made-up board"
kind = "gpu"
unified = false
[peak_per_s]
fp32 = { value = 1e12, source = "a" }
[memory]
size_bytes = { value = 1e9, source = "a" }
[sources.a]
title = "Nobody"
url = ""
date = "2026-01"
"""


def test_the_package_knows_these_boards() -> None:
    assert set(device_names()) == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_every_board_loads_and_every_source_has_a_title_and_a_date(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert list(device.figures())
    for source in device.sources.values():
        assert source.title
        assert re.fullmatch(r"https?://\S+|", source.url)
        assert re.fullmatch(r"20\d\d(-\d\d(-\d\d)?)?", source.date)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_narrower_arithmetic_is_never_slower_where_a_board_has_units_for_it(name: str) -> None:
    """The P40 has none for halves; a swapped or sparse figure would break the order elsewhere."""
    rates = {
        precision: figure.value for precision, figure in load_device(name).peak_per_s.items() if precision != "bf16"
    }
    order = [rates[p] for p in ("fp32", "fp16", "int8", "fp4") if p in rates and (name, p) != ("p40", "fp16")]
    assert order == sorted(order)


def test_a_device_file_is_written_as_it_was_read(tmp_path: Path) -> None:
    for name in device_names():
        device = load_device(name)
        assert device_from_text(text_of(device), "copy") == device
    write_device(load_device("t4"), tmp_path / "mine.toml")
    assert load_device(str(tmp_path / "mine.toml")) == load_device("t4")


def test_a_mode_has_only_the_figures_published_for_it() -> None:
    board = load_device("agx-orin-64gb@15w")
    assert (board.name, board.power_w) == ("agx-orin-64gb@15W", 15)
    assert (need_peak(board, "int8"), need_bandwidth(board)) == (7e12, 136.5e9)
    with pytest.raises(MeasurementError, match="memory bandwidth is unknown"):
        need_bandwidth(load_device("agx-thor@40W"))
    with pytest.raises(MeasurementError, match="peak rate in fp32 is unknown"):
        need_peak(board, "fp32")


def test_the_mode_of_the_peaks_is_the_board_itself() -> None:
    assert load_device("orin-nano-8gb@15W") == load_device("orin-nano-8gb")
    with pytest.raises(MeasurementError, match="no power mode '99W'.*15W"):
        in_mode(load_device("orin-nano-8gb"), "99W")


def test_a_card_without_half_precision_computes_halves_as_singles() -> None:
    assert need_peak(load_device("p40"), "fp16") == 11.76e12
    assert need_peak(load_device("t4"), "fp16") == 65e12


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(
        MeasurementError, match="raspberry-pi-5 cannot be projected: its peak rate in fp32 is unknown.*measure-cpu"
    ):
        need_peak(load_device("raspberry-pi-5"), "fp32")
    assert load_device("agx-xavier-32gb").price_usd is None
    assert load_device("l4").price_usd is None


def test_super_mode_and_power_modes_are_the_same_board() -> None:
    assert {board_of(name) for name in ("orin-nano-8gb", "orin-nano-8gb-super", "orin-nano-8gb@7W")} == {
        "orin-nano-8gb"
    }


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('kind = "gpu"', 'kind = "toaster"', "not a device file"),
        ("unified = false", "unified = false\ncolour = 3", "colour"),
        ('source = "a" }\n[memory]', 'source = "b" }\n[memory]', "cites b"),
        (
            "[sources.a]",
            '[sources.b]\ntitle = "x"\nurl = ""\ndate = "2026"\n[sources.a]',
            "sources b, which no figure cites",
        ),
        ("1e12", "-1e12", "peak fp32 must be above 0"),
        ("fp32", "fp31", "not a device file"),
        ("name =", "name ==", "not a device file"),
        (
            "[memory]",
            '[[power_modes]]\nname="a"\npower_w={value=1,source="a"}\nof_the_peaks=true\n' * 2 + "[memory]",
            "several",
        ),
    ],
)
def test_a_broken_file_says_what_is_wrong(old: str, new: str, complaint: str) -> None:
    assert old in SMALL
    with pytest.raises(MeasurementError, match=complaint):
        device_from_text(SMALL.replace(old, new, 1), "mine.toml")


def test_a_file_that_nests_too_deeply_is_refused() -> None:
    with pytest.raises(MeasurementError, match="mine.toml nests values too deeply"):
        device_from_text("notes = " + "[" * 20_000 + "]" * 20_000, "mine.toml")


def test_an_unknown_name_lists_the_known_ones_and_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="unknown device 'orin'.*agx-thor"):
        load_device("orin")
    with pytest.raises(MeasurementError, match="cannot read the device file"):
        load_device(str(tmp_path / "none.toml"))


def test_unknown_stays_out_of_a_written_file() -> None:
    device = Device("a", "A", "cpu", True, {"s": Source("S", "", "2026")}, launch_s=Figure(1e-6, "s"))
    text = text_of(device)
    assert "null" not in text
    assert "price" not in text
    assert msgspec.structs.replace(device_from_text(text, "a"), title="A") == device


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Jetson AGX Orin 32 GB", "agx-orin-32gb"),
        ("RTX 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("orin_nano_8gb", "orin-nano-8gb"),
        ("orin-nano-8bg", "orin-nano-8gb"),
        ("thor", "agx-thor"),
        ("RTX 4060 Ti 16 GB", "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 5070 Ti", "rtx-5070-ti"),
        ("Jetson Orin Nano Super kit", "orin-nano-8gb-super-kit"),
        ("AGX Xavier", "agx-xavier-32gb"),
        ("Jetson AGX Orin Developer Kit", "agx-orin-64gb-kit"),
    ],
)
def test_a_device_written_otherwise_is_guessed(written: str, meant: str) -> None:
    with pytest.raises(MeasurementError, match=f"did you mean '{meant}'"):
        load_device(written)


def test_the_modes_of_agx_orin_32gb_are_those_of_its_power_file() -> None:
    device = load_device("agx-orin-32gb")
    modes = {mode.name: mode.power_w.value for mode in device.power_modes}
    assert (device.power_w, modes) == (40, {"MAXN": 40, "40W": 40, "30W": 30, "15W": 15})
    rates = [need_peak(load_device(f"agx-orin-32gb@{name}"), "fp16") for name in ("15W", "30W", "40W", "MAXN")]
    assert rates == sorted(rates)


def test_modes_of_jetson_orin_are_those_of_their_power_files() -> None:
    """A lower mode is never faster; the rates of Super mode are those of its unlimited one, not of 25 W."""
    for name in (n for n in device_names() if "orin" in n):
        device = load_device(name)
        told = [in_mode(device, mode.name) for mode in device.power_modes if mode.of_the_peaks or mode.peak_per_s]
        assert told, name
        in_order = sorted(told, key=lambda one: (one.power_w or 0, need_peak(one, "fp16")))
        rates = [need_bandwidth(one) for one in in_order]
        assert all(more >= 0.99 * less for less, more in pairwise(rates)), f"{name}: beyond rounding (102 and 102.4)"
    limited = load_device("orin-nano-8gb-super@25W")
    assert need_peak(limited, "fp16") == 15.04e12 < need_peak(load_device("orin-nano-8gb-super"), "fp16")
    assert load_device("orin-nano-4gb").power_w == 10
    assert [mode.name for mode in load_device("orin-nx-8gb").power_modes] == ["40W", "20W", "15W", "10W"]


def test_a_price_says_what_it_buys_and_since_when() -> None:
    prices = {name: load_device(name).market.price_usd for name in device_names()}
    assert all(price.kind for price in prices.values() if price is not None)
    kit, module, card = (load_device(name) for name in ("orin-nano-8gb-super-kit", "orin-nano-8gb-super", "rtx-4090"))
    said = [
        (d.price_usd, d.market.price_usd and (d.market.price_usd.kind, d.dated(d.market.price_usd)))
        for d in (kit, card)
    ]
    assert said == [(249, ("kit", "2024-12")), (1599, ("card", "2022-10"))]
    assert module.market.price_usd is not None and module.market.price_usd.kind == "module"


def test_a_developer_kit_computes_what_its_module_does() -> None:
    for name in ("orin-nano-8gb-super", "agx-orin-64gb"):
        module, kit = load_device(name), load_device(f"{name}-kit")
        assert (kit.peak_per_s, kit.memory, kit.power_modes) == (module.peak_per_s, module.memory, module.power_modes)
        assert board_of(kit.name) == board_of(module.name)


def test_a_figure_that_only_repeats_others_is_marked() -> None:
    device = load_device("agx-orin-32gb")
    marked = {name: device.quoted(figure) for name, figure in device.figures()}
    assert marked["peak fp16"] and marked["power in mode MAXN"]
    assert not marked["price"] and not marked["peak fp16 in mode 30W"]


def test_what_is_old_quoted_or_missing_is_listed() -> None:
    today = datetime.date(2027, 1, 15)
    found = figure_doubts(load_device("rtx-5080"), today, 12)
    assert found.stale == {"price": "2025-01"}
    assert "memory bandwidth" in found.quoted and "compute capability" not in found.quoted
    assert figure_doubts(load_device("rtx-5080"), datetime.date(2025, 12, 31), 12).stale == {}
    assert figure_doubts(load_device("rtx-3060"), datetime.date(2021, 1, 1), 12).stale == {"price": "launch"}
    assert set(figure_doubts(load_device("intel-n100"), today, 12).unknown) >= {"peak fp32", "memory size", "price"}
    assert "rates in mode 40W" in figure_doubts(load_device("agx-thor"), today, 12).unknown
    whole = board(market=Market(MarketPrice(1.0, "made", kind="card", since="2026-12")))
    assert not figure_doubts(whole, today, 12).any
