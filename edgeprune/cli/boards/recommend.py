"""edgeprune recommend: boards and budgets that meet a need, and what to measure to be sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.console import Json, emit, errors_as_one_line, out
from edgeprune.cli.options import (
    BundleFolder,
    MaxTokens,
    MeasuredRuns,
    PictureSize,
    budget_option,
    device_option,
    max_memory_option,
    prompt_option,
)
from edgeprune.cli.tables import show_table

if TYPE_CHECKING:
    from edgeprune_profiles.boards.recommend import BoardChoice, BoardOption


def recommend(
    bundle: BundleFolder,
    ttft: Annotated[str | None, typer.Option(help="Time to the first token, at most: 1s, 500ms.")] = None,
    tokens_per_s: Annotated[str | None, typer.Option("--tokens-per-s", help="Tokens per second, at least: 10.")] = None,
    max_power: Annotated[str | None, typer.Option("--max-power", help="Watts of the board: 15W.")] = None,
    max_memory: Annotated[str | None, max_memory_option()] = None,
    max_price: Annotated[str | None, typer.Option("--max-price", help="Price in US dollars: 400.")] = None,
    device: Annotated[list[str] | None, device_option("all, in all their modes")] = None,
    budget: Annotated[list[str] | None, budget_option("all of the bundle")] = None,
    report: MeasuredRuns = None,
    prompt: Annotated[str, prompt_option()] = "What is in this picture?",
    size: PictureSize = None,
    max_tokens: MaxTokens = 16,
    json: Json = False,
) -> None:
    """Say which boards meet the needs with BUNDLE, at which budgets: measured where there are runs, else projected."""
    with errors_as_one_line():
        from edgeprune_profiles.boards.from_runs import ProjectedRequest, options_on_boards, read_runs, samples_of
        from edgeprune_profiles.boards.recommend import Needs, measure_next
        from edgeprune_profiles.boards.recommend import recommend as choose
        from edgeprune_profiles.record import quantities as q
        from edgeprune_runtime.bundle import Bundle
        from edgeprune_runtime.installed import command

        needs = Needs(
            ttft_s=None if ttft is None else q.quantity(ttft, q.SECONDS, "--ttft"),
            tokens_per_s=None if tokens_per_s is None else q.quantity(tokens_per_s, q.PER_SECOND, "--tokens-per-s"),
            power_w=None if max_power is None else q.quantity(max_power, q.WATTS, "--max-power"),
            memory_bytes=None if max_memory is None else round(q.quantity(max_memory, q.BYTES, "--max-memory")),
            price_usd=None if max_price is None else q.quantity(max_price, q.DOLLARS, "--max-price"),
        )
        opened = Bundle.open(bundle, verify=False)
        request = ProjectedRequest(prompt, max_tokens, None if size is None else q.size_px(size, "--size"))
        runs = read_runs(report or [], opened)
        samples = samples_of(runs, request.size)
        found, left_out = options_on_boards(opened, budget or [], device or [], request, runs, samples)
        choices = choose(found, needs)
        following = measure_next(choices)
        if json:
            emit(
                {
                    "needs": needs,
                    "choices": [_as_data(choice) for choice in choices],
                    "left_out": left_out,
                    "measure_next": None if following is None else _as_data(following),
                }
            )
            return
        _show(choices)
        for why in dict.fromkeys(_reason(text) for text in left_out.values()):
            names = ", ".join(name for name, text in left_out.items() if _reason(text) == why)
            out.print(f"left out, {why}: {names}", highlight=False, markup=False, style="dim")
        if following is not None:
            one = following.candidate
            step = command(
                "edgeprune",
                "profile",
                bundle,
                "--budget",
                one.budget,
                "--max-tokens",
                max_tokens,
                "--out",
                "report.json",
            )
            out.print(
                f"to be sure, on {one.device.name}: {step}, then add --report {one.device.name},report.json here",
                highlight=False,
                markup=False,
            )


def _as_data(choice: BoardChoice) -> dict[str, object]:
    one = choice.candidate
    return {
        "device": one.device.name,
        "budget": one.budget,
        "basis": one.basis,
        "confidence": one.confidence,
        "meets": choice.meets,
        "answers": choice.answers,
        "limited_by": {
            need: one.limits[need] for need, word in choice.answers.items() if word != "yes" and need in one.limits
        },
        "pareto": choice.on_front,
        "ttft_s": one.ttft_s,
        "tokens_per_s": one.tokens_per_s,
        "energy_at_most_j" if one.basis == "projected" else "energy_j": one.energy_j,
        "power_w": one.device.power_w,
        "price_usd": one.device.price_usd,
        "memory": {"parts": one.memory, "verdict": one.memory.verdict},
    }


def _show(choices: tuple[BoardChoice, ...]) -> None:
    """Those that meet the needs or may; the others in one line each."""
    from edgeprune.cli.boards.project import numbers, seconds
    from edgeprune_profiles.report import units

    head = [
        "device",
        "budget",
        "meets",
        "basis",
        "confidence",
        "TTFT",
        "tokens/s",
        "energy J",
        "W",
        "USD",
        "memory",
        "front",
    ]
    rows = [
        [
            one.device.name,
            one.budget,
            choice.meets + _because(choice),
            one.basis,
            one.confidence,
            seconds(one.ttft_s),
            numbers(one.tokens_per_s),
            _energy(one),
            f"{one.device.power_w:g}" if one.device.power_w else units.UNKNOWN,
            f"{one.device.price_usd:.0f}" if one.device.price_usd else units.UNKNOWN,
            f"{units.size(one.memory.application_bytes)}, {one.memory.verdict}",
            "front" if choice.on_front else "",
        ]
        for choice in choices
        if choice.meets != "no"
        for one in (choice.candidate,)
    ]
    sure = sum(choice.meets == "yes" for choice in choices)
    left = ["device", "budget", "meets", "basis", "confidence", "memory", "front"]
    title = f"{sure} of {len(choices)} meet it with all of their intervals; front: no other is better in everything"
    show_table(title, head, rows, left)
    if any(choice.candidate.basis == "projected" for choice in choices):
        out.print(
            "projected times leave out preprocessing on the host, and rest on runs of other boards: measure before you buy",
            style="dim",
            markup=False,
        )
    for choice in choices:
        if choice.meets == "no":
            one = choice.candidate
            out.print(
                f"no: {one.device.name} at {one.budget} ({one.basis}){_because(choice)}", highlight=False, markup=False
            )


def _reason(text: str) -> str:
    """What is missing, without the board's name in front and the cure behind."""
    return text.partition(";")[0].partition("projected: ")[2] or text


def _because(choice: BoardChoice) -> str:
    """What keeps a choice from `yes`, and which stage or part of the memory is behind it."""
    limits = choice.candidate.limits
    named = {need: f"{need} ({limits[need]})" if need in limits else need for need in choice.answers}
    rest = [
        named[need] if word == choice.meets else f"{named[need]} {word}"
        for need, word in choice.answers.items()
        if word != "yes"
    ]
    return f": {', '.join(rest)}" if rest else ""


def _energy(one: BoardOption) -> str:
    from edgeprune.cli.boards.project import numbers
    from edgeprune_profiles.report import units

    if one.basis == "projected" and one.energy_j is not None:
        return f"<= {units.rate(one.energy_j.high)}"
    return numbers(one.energy_j)
