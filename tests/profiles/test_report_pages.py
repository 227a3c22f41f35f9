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

from edgeprune_profiles import charts, render_csv, render_html, render_markdown, units
from edgeprune_profiles.record import Accuracy
from edgeprune_profiles.stats import Ratio
from edgeprune_profiles.summary import summarise
from edgeprune_profiles.verdict import verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECTIONS = ["verdict", "plots", "times", "stages", "memory", "accuracy", "method", "environment"]
PLOTS = ["plot-first-token", "plot-accuracy", "plot-further-tokens", "plot-memory"]
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
    assert "<p>unknown: not evaluated.</p>" in text
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
    for chart in (charts.first_token(summarise(report)), charts.memory(summarise(report))):
        for bar in chart.bars:
            ends = [(s.x, s.x + s.width) for s in bar.segments]
            assert all(end == pytest.approx(start, abs=0.02) for (_, end), (start, _) in itertools.pairwise(ends))
            assert ends[-1][1] <= charts.WIDTH + 0.05
        assert chart.bars[0].segments[-1].x + chart.bars[0].segments[-1].width == pytest.approx(charts.WIDTH, abs=0.05)


def test_memory_that_weights_exceed_is_not_divided(report):
    full = report.budgets[0]
    mapped = replace(full, budget=replace(full.budget, weights_bytes=full.memory.peak_bytes * 2))
    (bar,) = charts.memory(summarise(replace(report, budgets=(mapped,)))).bars
    assert [plain(segment.title) for segment in bar.segments] == ["rest: 1.93 GiB"]


def test_accuracy_lines_hold_every_pruned_row_and_full_budget_is_a_rule(report):
    chart = charts.accuracy(report.accuracy)
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


def test_ratios_are_refused_in_words():
    assert units.times(Ratio(2.0, 1.9, 2.1, 12, True)) == "2.00x [1.90, 2.10]"
    assert units.times(Ratio(1.0, 0.9, 1.1, 12, False)) == "not distinguishable [0.90, 1.10]"
    assert units.times(Ratio(9.0, 9.0, 9.0, 2, False)) == "not distinguishable (2 of 6 pairs needed)"
    assert units.times(None) == "unknown"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_real_browser_shows_everything_without_complaint(report, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render_html(report), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'user'}", "--dump-dom", file.as_uri()]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")  # Chromium refuses to run as root with it
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert "CONSOLE" not in result.stderr
    shown = Page(result.stdout)
    assert sorted(shown.ids) == sorted(SECTIONS + PLOTS)
    assert shown.tags.count("figure") == 4
    assert shown.tags.count("table") == 7
