from __future__ import annotations

import csv
import io
import itertools
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import msgspec
import pytest

from edgeprune_profiles import render_csv, render_html, render_markdown
from edgeprune_profiles.record.power_profile import PowerWindow
from edgeprune_profiles.record.profile import Accuracy, BackendUse
from edgeprune_profiles.report import chart_bars, chart_lines, units
from edgeprune_profiles.report.choice import ReportNeeds
from edgeprune_profiles.report.summary import summarise
from edgeprune_profiles.report.verdict import verdict
from edgeprune_runtime.statistics import Ratio
from tests.profiles.powered import powered_report, soaked

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECTIONS = ["verdict", "unknown", "plots", "times", "stages", "memory", "accuracy", "method", "environment"]
PLOTS = ["plot-front", "plot-first-token", "plot-accuracy", "plot-memory", "plot-further-tokens"]
POWER = ["energy", "plot-energy"]
SOAK = ["sustained", "plot-sustained"]
replace = msgspec.structs.replace


def plain(text: str) -> str:
    return text.replace(units.NBSP, " ")


def keep(report, *names, samples=None, **changes):
    budgets = [r for r in report.budgets if r.budget.name in names]
    budgets = [replace(r, samples=r.samples[:samples]) for r in budgets]
    return replace(report, budgets=tuple(budgets), **changes)


class Page(HTMLParser):
    """Collects ids, tags and everything that would load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        self.loads += [values[name] for name in ("src", "href", "srcset", "data") if name in values]


def test_first_sentence_says_how_much_earlier_the_first_token_comes(report):
    first, rest, further, score, controls = map(plain, verdict(summarise(report)))
    assert re.fullmatch(
        r"At budget 0\.1 the first token comes 3\.\dx \[3\.\d, 3\.\d\] earlier: .* instead of .*\.", first
    )
    assert re.search(r"Preprocessing and the vision tower.* 7\d %", rest)
    assert "faster" in further
    shown = "Exact match: 64.2 % against 72.2 % at full budget (points: -8.0 [-9.6, -6.4]) over 1200 questions."
    assert score.replace("\N{MINUS SIGN}", "-") == shown
    assert controls == "At the same budget: downsample 52.0 %, uniform 50.3 %, random 48.9 %."


def test_too_few_pairs_claim_no_ratio(report):
    first = verdict(summarise(keep(report, "1.0", "0.1", samples=3)))[0]
    assert "not distinguishable" in first
    assert "3 pairs were measured, 6 are needed" in first
    assert "1 pair was measured, 6 are needed" in verdict(summarise(keep(report, "1.0", "0.1", samples=1)))[0]


def test_equal_times_are_not_distinguishable(report):
    full, *_ = report.budgets
    twin = replace(full, budget=report.budgets[-1].budget)
    first = verdict(summarise(replace(report, budgets=(full, twin))))[0]
    assert "not distinguishable from full budget (1.00x [1.00, 1.00], 12 pairs)" in first


def test_processor_time_decides_where_the_clock_of_a_busy_machine_does_not(report):
    full, *_, small = report.budgets
    busy = [replace(mine, cpu_s=less.cpu_s) for mine, less in zip(full.samples, small.samples, strict=True)]
    sentences = verdict(summarise(replace(report, budgets=(full, replace(small, samples=tuple(busy))))))
    assert "not distinguishable" in sentences[0]
    assert re.search(r"In processor time, .*, it is 3\.\dx .* faster", sentences[1])


def test_a_slower_budget_is_called_later(report):
    full, *_, small = report.budgets
    swapped = (replace(full, samples=small.samples), replace(small, samples=full.samples))
    assert re.search(r"3\.\dx \[3\.\d, 3\.\d\] later", verdict(summarise(replace(report, budgets=swapped)))[0])


def test_without_full_budget_no_ratio_is_given(report):
    assert "full budget was not profiled" in verdict(summarise(keep(report, "0.2")))[0]


def test_only_full_budget_says_so(report):
    assert "no smaller budget" in verdict(summarise(keep(report, "1.0")))[0]


def test_missing_accuracy_is_said_and_not_invented(report):
    assert "not evaluated" in verdict(summarise(replace(report, accuracy=None)))[-1]


def test_the_page_is_self_contained(report):
    page = Page(render_html(report))
    assert page.loads == ["data:,"]
    assert "script" not in page.tags
    assert "@import" not in render_html(report)
    assert "url(" not in render_html(report)


def test_the_page_has_every_section_once(report):
    ids = Page(render_html(report)).ids
    assert sorted(ids) == sorted(SECTIONS + PLOTS)


def test_unknown_is_shown_as_unknown_and_never_as_zero(report):
    results = tuple(replace(r, memory=None, budget=replace(r.budget, weights_bytes=None)) for r in report.budgets)
    text = plain(render_html(replace(report, budgets=results, accuracy=None)))
    assert "<td>unknown</td>" in text
    assert "Unknown here: accuracy, energy and power, peak memory" in text
    assert not {"plot-accuracy", "plot-front", "plot-energy", "accuracy", "energy"} & set(Page(text).ids)
    assert not re.search(r">0(\.0+)? (J|MiB|GiB)<", text)


def test_text_from_the_report_is_escaped(report):
    text = render_html(replace(report, command="x <script>alert(1)</script>"))
    assert "<script>" not in text
    assert "Made-up CPU &lt;8-core&gt;" in text


@pytest.mark.parametrize("names", [("1.0",), ("0.2",), ("1.0", "0.1")])
@pytest.mark.parametrize("samples", [0, 1])
def test_small_reports_render(report, names, samples):
    small = keep(report, *names, samples=samples)
    assert Page(render_html(small)).ids
    assert render_markdown(small)
    assert render_csv(small)


def test_markdown_has_a_row_per_budget_and_per_selection(report):
    lines = plain(render_markdown(report)).splitlines()
    assert sum(line.startswith("| 0.1 | hired |") for line in lines) == 1
    assert sum("downsample" in line and line.startswith("|") for line in lines) == 3
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 2


def test_csv_has_a_row_per_request_in_seconds(report):
    rows = list(csv.DictReader(io.StringIO(render_csv(report))))
    assert len(rows) == 4 * 12
    sample = report.budgets[0].samples[0]
    assert float(rows[0]["ttft_s"]) == sample.ttft_s
    assert float(rows[0]["tower_wall_s"]) == pytest.approx(sum(sample.wall_s["tower"]))
    assert rows[0]["energy_j"] == ""


def test_bars_stack_to_the_total_and_stay_inside(report):
    for chart in (chart_bars.first_token(summarise(report)), chart_bars.memory(summarise(report), None)):
        for bar in chart.bars:
            ends = [(s.x, s.x + s.width) for s in bar.segments]
            assert all(end == pytest.approx(start, abs=0.02) for (_, end), (start, _) in itertools.pairwise(ends))
            assert ends[-1][1] <= chart_bars.WIDTH + 0.05
        assert chart.bars[0].segments[-1].x + chart.bars[0].segments[-1].width == pytest.approx(
            chart_bars.WIDTH, abs=0.05
        )


def test_memory_that_weights_exceed_is_not_divided(report):
    full = report.budgets[0]
    mapped = replace(full, budget=replace(full.budget, weights_bytes=full.memory.peak_bytes * 2))
    (bar,) = chart_bars.memory(summarise(replace(report, budgets=(mapped,))), None).bars
    assert [plain(segment.title) for segment in bar.segments] == ["rest: 1.93 GiB"]


def test_a_limit_that_is_near_is_drawn_and_one_that_is_far_is_only_said(report):
    summary = summarise(report)
    peak = max(b.result.memory.peak_bytes for b in summary.budgets)
    near, far = chart_bars.memory(summary, 2 * peak), chart_bars.memory(summary, 100 * peak)
    assert near.limit_x == chart_bars.WIDTH
    assert near.bars[0].segments[-1].x + near.bars[0].segments[-1].width == pytest.approx(
        chart_bars.WIDTH / 2, abs=0.05
    )
    assert far.limit_x is None
    assert far.bars == chart_bars.memory(summary, None).bars
    assert [key.name for key in far.legend][-1] == plain("limit 193 GiB, 100 times the longest bar").replace(
        " GiB", f"{units.NBSP}GiB"
    )
    assert "The limit is 3.87 GiB; the highest takes 50 % of it" in plain(
        render_html(report, ReportNeeds(memory_bytes=2 * peak))
    )
    assert "The machine's memory is 32.0 GiB; the highest takes 6 % of it" in plain(render_html(report)).replace(
        "&#39;", "'"
    )


def test_a_budget_over_the_limit_says_so(report):
    full, *_, small = chart_bars.memory(summarise(report), 1_700 << 20).bars
    assert full.value.endswith(", over the limit")
    assert not small.value.endswith(", over the limit")
    assert full.segments[-1].x + full.segments[-1].width == pytest.approx(chart_bars.WIDTH, abs=0.05)


def test_a_label_is_cut_where_its_value_begins(report):
    long = [
        replace(r, budget=replace(r.budget, method="a-method-with-a-very-long-name-of-its-own")) for r in report.budgets
    ]
    for limit, room in ((None, 39), (1 << 30, 21)):  # 360 px: 8 or 24 characters of 8.2, the rest of 7.2, one to spare
        *_, small = chart_bars.memory(summarise(replace(report, budgets=tuple(long))), limit).bars
        assert len(small.label) == room
        assert small.label.startswith("a-method-with-")
        assert small.label.endswith("\N{HORIZONTAL ELLIPSIS}@0.1")
    assert chart_bars.memory(summarise(report), 1 << 30).bars[0].label == "1.0, nothing dropped"


def test_energy_is_stacked_by_piece_and_its_value_is_that_of_the_whole_request():
    report = powered_report()
    full = chart_bars.energy(summarise(report)).bars[0]
    assert plain(full.value) == "58.29 ± 0.06 J"
    titles = [plain(segment.title).split(":")[0] for segment in full.segments]
    assert titles == ["preprocess + tower", "select", "prefill", "decode"]
    assert (
        plain(full.segments[0].title) == "preprocess + tower: 2.31 J"
    )  # 2.336 J of an image without 29 mJ of its selection
    assert plain(full.segments[3].title) == "decode: 10.1 J"  # 31 tokens of 8 W x 1.27 s / 31


def test_energy_that_was_only_counted_around_requests_is_one_piece(report):
    results = [replace(r, samples=tuple(replace(s, energy_j=3.0) for s in r.samples)) for r in report.budgets]
    counted = replace(report, budgets=tuple(results), energy_source="rapl:package-0")
    chart = chart_bars.energy(summarise(counted))
    assert [[plain(s.title) for s in bar.segments] for bar in chart.bars] == [["request: 3.00 J"]] * 4
    assert chart.legend == ()
    assert "Counted around single requests, rapl:package-0." in render_html(counted)


def test_no_energy_draws_nothing_and_says_where_to_look(report):
    assert chart_bars.energy(summarise(report)) is None
    assert "<code>edgeprune profile --power</code> looks for further sensors" in render_html(report)
    asked = replace(report, power_source="unknown: no power sensor for this work. rapl: hidden")
    assert "<dd>no power sensor for this work. rapl: hidden</dd>" in render_html(asked)


def test_a_page_with_power_and_a_soak_shows_both():
    text = plain(render_html(powered_report()))
    assert sorted(Page(text).ids) == sorted(SECTIONS + PLOTS + POWER + SOAK)
    assert "which covers the module" in text
    assert "<td>58.29 ± 0.06 J</td>" in text
    assert "engines tensorrt-10.3-sm87-fp16" in text
    assert "What the GPU allocates is not in it." in text
    assert "the clock of gpu fell from" in text
    assert text.count("over time") == 4


def test_a_doubt_is_marked_beside_its_number_and_explained():
    report = powered_report()
    raw = msgspec.to_builtins(report.budgets[2].power[0])
    raw["run"]["trace"]["flags"] = ["the sampler <died>"]
    doubtful = replace(report.budgets[2], power=(msgspec.convert(raw, PowerWindow), *report.budgets[2].power[1:]))
    changed = replace(report, budgets=(*report.budgets[:2], doubtful, report.budgets[3]))
    text, lines = plain(render_html(changed)), plain(render_markdown(changed)).splitlines()
    assert text.count("22.90 ± 0.02 J *</td>") == 1
    assert "<li>* 0.2 request: the sampler &lt;died&gt;</li>" in text
    assert "Doubtful, 0.2 request: the sampler <died>." in lines
    assert any(line.startswith("| 0.2 | 22.90 ± 0.02 J * |") for line in lines)


def test_a_ratio_of_energies_is_doubtful_when_either_side_is():
    report = powered_report()
    raw = msgspec.to_builtins(report.budgets[0].power[0])
    raw["run"]["trace"]["flags"] = ["the machine slept"]
    full = replace(report.budgets[0], power=(msgspec.convert(raw, PowerWindow),))
    said = verdict(summarise(replace(report, budgets=(full, *report.budgets[1:]))))
    assert any("less energy" in s and s.endswith("(the module; doubtful, see the marks).") for s in said)
    assert any("less energy" in s and s.endswith("(the module).") for s in verdict(summarise(report)))


def test_a_soak_without_any_sensor_has_its_rate(report):
    text = plain(render_html(replace(report, soak=soaked(sensor=False))))
    assert text.count("over time") == 1
    assert "<td>2.00/s</td><td>unknown</td>" in text


def test_verdict_says_what_a_warm_board_is_left_with():
    (soak,) = [plain(s) for s in verdict(summarise(powered_report())) if "without a pause" in s]
    assert soak == (
        "Asked for 10 min without a pause at budget 0.2, requests take 1.50x [1.50, 1.50] as long in the last minute as in the first "
        "(1.33/s instead of 2.00/s), held back by gpu-throttle-alert."
    )


def test_accuracy_lines_hold_every_pruned_row_and_full_budget_is_a_rule(report):
    chart = chart_lines.accuracy(report.accuracy)
    assert [len(line.points) for line in chart.lines] == [3, 3, 3, 3]
    assert [text for _, text in chart.x_ticks] == ["0.1", "0.2", "0.4"]
    assert chart.full_y is not None
    assert len({(line.colour, line.shape) for line in chart.lines}) == 4
    heights = [point.y for line in chart.lines for point in line.points]
    assert min(heights) >= 12
    assert max(heights) <= chart.bottom


def test_an_accuracy_section_without_rows_to_draw_renders(report):
    empty = Accuracy("d.jsonl", 1, 1, "exact_match", report.accuracy.rows[:1])
    assert "plot-accuracy" in render_html(replace(report, accuracy=empty))


@pytest.mark.parametrize(("value", "text"), [
    (None, "unknown"), (0.0000004, "0.40 µs"), (0.00999, "9.99 ms"), (0.0423, "42.3 ms"), (0.9994, "999 ms"),
    (0.9996, "1.00 s"), (12.34, "12.3 s"), (99.96, "100 s"), (1234.0, "1234 s"),
])  # fmt: skip
def test_seconds_have_three_digits_and_no_powers_of_ten(value, text):
    assert plain(units.seconds(value)) == text


@pytest.mark.parametrize(("value", "error", "text"), [
    (None, None, "unknown"), (3.214, None, "3.21 J"), (58.29, 0.06, "58.29 ± 0.06 J"), (58.29, 0.6, "58.3 ± 0.6 J"),
    (58.29, 6.0, "58 ± 6 J"), (0.3269, 0.0008, "326.9 ± 0.8 mJ"), (5.0, 1e-9, "5.000 ± 0.000 J"), (5.0, 0.0, "5.00 J"),
])  # fmt: skip
def test_joules_have_as_many_digits_as_their_error_leaves(value, error, text):
    assert plain(units.give_or_take(value, error)) == text


def test_ratios_are_refused_in_words():
    assert units.times(Ratio(1.9, 2.0, 2.1, 12, True)) == "2.00x [1.90, 2.10]"
    assert units.times(Ratio(0.9, 1.0, 1.1, 12, False)) == "not distinguishable [0.90, 1.10]"
    assert units.times(Ratio(9.0, 9.0, 9.0, 2, False)) == "not distinguishable (2 of 6 pairs needed)"
    assert units.times(None) == "unknown"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("powered", [False, True], ids=["times", "power and soak"])
def test_a_real_browser_shows_everything_without_complaint(report, tmp_path, powered):
    file = tmp_path / "report.html"
    file.write_text(render_html(powered_report() if powered else report), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'user'}", "--dump-dom", file.as_uri()]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # Chromium refuses to run as root with it
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert "CONSOLE" not in result.stderr
    shown = Page(result.stdout)
    assert sorted(shown.ids) == sorted(SECTIONS + PLOTS + (POWER + SOAK if powered else []))
    assert shown.tags.count("figure") == (7 if powered else 5)
    assert shown.tags.count("table") == (11 if powered else 7)


def test_bars_name_their_rows_as_the_terminal_does(report):
    summary = summarise(report)
    labels = [bar.label for bar in chart_bars.first_token(summary).bars]
    assert labels == ["1.0, nothing dropped", *(b.with_method for b in summary.budgets[1:])]
    assert "hired@0.2" in labels


def test_commands_in_a_page_are_code_and_pictures_are_counted_as_pictures(report):
    why = "tensorrt: not installed (`pip install <it>`); cuda: none"
    page = render_html(replace(report, backend=BackendUse("onnxruntime", why, "cpu")))
    assert "<code>pip install &lt;it&gt;</code>" in page
    assert not re.search("`", page)
    assert " of 1 picture. In each round" in page and "1 case" not in page
    assert "rounds of 1 picture, interleaved" in render_markdown(report)
