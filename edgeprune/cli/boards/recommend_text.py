"""A recommendation in the terminal: the answer, one line per board, and why the others are not among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeprune.cli.boards.subject import Subject
from edgeprune.cli.console import out, say
from edgeprune.cli.tables import Column, show_table

if TYPE_CHECKING:
    from edgeprune_profiles.boards.decision.decide import Decision
    from edgeprune_profiles.boards.recommend import BoardChoice, Needs

#: Boards of the short list; `--all` shows every one.
SHORT = 12


def show(
    subject: Subject,
    decision: Decision,
    needs: Needs,
    choices: Sequence[BoardChoice],
    left_out: Mapping[str, str],
    max_tokens: int,
    every: bool,
) -> None:
    """Print to stdout."""
    from edgeprune_profiles.boards.decision.decide import one_per_board
    from edgeprune_profiles.boards.decision.sentences import decision_sentences

    first, *more = decision_sentences(decision, needs, choices)
    say(first, style="bold")
    for sentence in more:
        say(sentence)
    out.print()
    boards = one_per_board(choices, needs)
    may = [choice for choice in boards if choice.meets != "no"]
    if every:
        _table("Every board, mode and budget", choices, needs, every)
    elif may:
        _table("The best of each board that may do", may[:SHORT], needs, every)
        if len(may) > SHORT:
            say(f"and {len(may) - SHORT} dearer boards that may do: --all")
    if not every:
        _others([choice for choice in boards if choice.meets == "no"])
    _not_projected(left_out, every)
    if any(choice.candidate.basis == "projected" for choice in choices):
        say("Projected from runs of other software and boards, without preprocessing; 95 % intervals.", style="dim")
    _next(subject, decision.measure, max_tokens)


def _table(title: str, choices: Sequence[BoardChoice], needs: Needs, every: bool) -> None:
    from edgeprune.cli.boards.project import ends, time_scale
    from edgeprune_profiles.boards.decision.decide import word
    from edgeprune_profiles.boards.decision.sentences import reasons
    from edgeprune_profiles.report import units

    scale, unit = time_scale(choice.candidate.ttft_s.point for choice in choices)
    rows = []
    for choice in choices:
        one = choice.candidate
        needed, there = one.memory.application_bytes + one.memory.system_bytes, one.memory.size_bytes
        rows.append(
            [
                one.device.name,
                one.budget,
                word(choice, needs),
                units.rate(one.ttft_s.point * scale),
                ends(one.ttft_s, scale),
                units.rate(one.tokens_per_s.point if one.tokens_per_s else None),
                _points(choice),
                f"{needed / 2**30:.1f}/{there / 2**30:.3g}" if there else f"{needed / 2**30:.1f}/?",
                f"{one.device.power_w:g}" if one.device.power_w else "?",
                f"{one.device.price_usd:.0f}" if one.device.price_usd else "?",
                one.basis,
                "front" if choice.on_front else "",
                ", ".join(reasons(choice)),
            ]
        )
    wanted = {
        name for name, value in (("GiB", needs.memory_bytes), ("W", needs.power_w), ("points", needs.accuracy)) if value
    }
    shown = [
        Column("board", left=True),
        Column("budget"),
        Column("meets", left=True),
        Column(f"TTFT {unit}"),
        Column("from-to", rank=1),
        Column("tok/s"),
        Column("points", rank=2),
        Column("GiB", rank=3),
        Column("W", rank=5),
        Column("USD"),
        Column("basis", left=True),
        Column("front", rank=7, left=True),
        Column("why not sure", rank=6, left=True, wraps=True),
    ]
    bases = {choice.candidate.basis for choice in choices}
    hidden = set() if every else {"front"}
    hidden |= set() if len(bases) > 1 else {"basis"}
    hidden |= set() if any(row[-1] for row in rows) else {"why not sure"}
    hidden |= set() if any(choice.candidate.accuracy for choice in choices) else {"points"}
    shown = [replace(column, rank=0) if column.head in wanted else column for column in shown]
    kept = [i for i, column in enumerate(shown) if column.head not in hidden]
    title = f"{title} ({'measured or projected' if len(bases) > 1 else bases.pop()})"
    show_table(title, [shown[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _points(choice: BoardChoice) -> str:
    from edgeprune_profiles.report import units

    found = choice.candidate.accuracy
    return "?" if found is None else units.points(found.lost)


def _others(choices: Sequence[BoardChoice]) -> None:
    """Boards that do not do, by what they fail at, a line for each."""
    from edgeprune_profiles.boards.decision.sentences import failures

    groups: dict[str, list[str]] = {}
    for choice in choices:
        groups.setdefault(failures(choice), []).append(choice.candidate.device.name.partition("@")[0])
    for why, names in groups.items():
        say(f"no, {why}: {', '.join(names)}", indent="    ")


def _not_projected(left_out: Mapping[str, str], every: bool) -> None:
    """Boards, a line for each reason; modes that nobody published rates for only where every one is asked for."""
    groups: dict[str, list[str]] = {}
    for name, text in left_out.items():
        if "@" in name and not every:
            continue
        groups.setdefault(_reason(text), []).append(name)
    for why, names in groups.items():
        say(f"not projected, {why}: {', '.join(names)}", style="dim", indent="    ")


def _reason(text: str) -> str:
    """What is missing, without the board's name in front and the cure behind."""
    text = text.partition(";")[0]
    for start in ("cannot be projected: ", "cannot run this bundle: "):
        text = text.partition(start)[2] or text
    return text.partition(", the oldest")[0]


def _next(subject: Subject, following: BoardChoice | None, max_tokens: int) -> None:
    """Commands stand on lines of their own, whole, so that they can be copied."""
    if following is None:
        return
    from edgeprune_runtime.installed import command

    one = following.candidate
    bundle = subject.source
    say(
        f"To be sure, on {one.device.name}:"
        if subject.bundle is not None
        else f"To be sure, export on a workstation and measure the copied bundle on {one.device.name}:"
    )
    steps = []
    if subject.bundle is None:
        bundle = "my.bundle"
        steps.append(command("edgeprune", "export", subject.model.name, "--budget", one.budget, "--out", bundle))
    wanted = ("--budget", one.budget, "--max-tokens", max_tokens)
    steps.append(command("edgeprune", "profile", bundle, *wanted, "--out", "report.json"))
    run = f"{one.device.name},report.json"
    steps.append(f"{command('edgeprune', 'recommend', bundle, '--report', run)}  # and the same needs")
    for step in steps:
        out.print(f"  {step}", markup=False, highlight=False, soft_wrap=True)
