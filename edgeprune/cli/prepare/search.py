"""edgeprune search: how many tokens stay where, for a price that is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeprune.cli.console import Json, activity, command_line, emit, errors_as_one_line, out, remark, say, track
from edgeprune.cli.extras import need_export
from edgeprune.cli.options import (
    Force,
    LimitImages,
    MethodSettings,
    Seed,
    grid_option,
    images_option,
    inside_option,
    method_option,
    out_option,
    sizes_from_texts,
    target_option,
    tiles_option,
    tokens_option,
    weights_option,
)
from edgeprune.cli.tables import Column, show_table
from edgeprune_runtime.spec import WeightPrecision

if TYPE_CHECKING:
    from edgeprune_export.commands.search import SearchedSchedule


def search(
    model: Annotated[
        str, typer.Argument(help="Folder or hub id of a vision-language checkpoint, or a ViT classifier.")
    ],
    target: Annotated[str, target_option()],
    images: Annotated[Path | None, images_option()] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            help="Questions about pictures with answers, .jsonl; with --images, those about its pictures.",
        ),
    ] = None,
    limit_images: LimitImages = 64,
    inside: Annotated[list[str] | None, inside_option("absorb of a classifier, else pdrop")] = None,
    method: Annotated[str | None, method_option("hired where it fits, else divprune")] = None,
    set_: MethodSettings = None,
    by: Annotated[
        Literal["greedy", "sigmoid", "bayes"],
        typer.Option(
            help="How to search: moves of tokens, a sigmoid over the depth, or a Bayesian optimiser (optuna)."
        ),
    ] = "greedy",
    trials: Annotated[int, typer.Option("--trials", min=1, help="Different schedules that are tried at most.")] = 60,
    cost: Annotated[
        Literal["kl", "answers"],
        typer.Option(
            help="What is kept low: divergence from the whole model, or what right answers lose (labels, --questions)."
        ),
    ] = "kl",
    weights: Annotated[WeightPrecision, weights_option()] = "fp32",
    tiles: Annotated[int | None, tiles_option()] = None,
    grid: Annotated[list[str] | None, grid_option()] = None,
    tokens: Annotated[int | None, tokens_option()] = None,
    seed: Seed = 0,
    to: Annotated[Path, out_option()] = Path("recipe.toml"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Search how many tokens stay at which block, at the tower's output and at which layer; an interrupted run goes on where it stopped.

    Half of the pictures choose, the others confirm; where they show no gain over the uniform schedule, the recipe is that one.
    """
    with errors_as_one_line(), activity("reading what was asked"):
        need_export("torch", "transformers", "accelerate")
        from edgeprune.plan import settings_from_text
        from edgeprune.schedules.target import schedule_target
        from edgeprune.tokens.methods import METHODS
        from edgeprune_export.commands.search import Searching
        from edgeprune_export.commands.search import search as make
        from edgeprune_export.searching.run import SearchRequest
        from edgeprune_profiles.schedules.page import schedule_page
        from edgeprune_runtime.claims import require_new
        from edgeprune_runtime.files import write_whole

        page = to.with_suffix(".html")
        request = SearchRequest(schedule_target(target), by, seed, trials)
        require_new(to, page, force=force)
        how = Searching(
            images=images,
            questions=questions,
            pictures=limit_images,
            inside=tuple(inside or ()),
            method=None if method is None else METHODS.choose(method).name,
            settings=settings_from_text(set_ or []),
            cost=cost,
            precision=weights,
            tiles=tiles,
            sizes=sizes_from_texts(grid),
            tokens=tokens,
            command=command_line(),
        )
        found = make(model, request, how, to, track=track, tell=remark)
        drawn = schedule_page(
            found.evidence.model, found.evidence.said, found.outcome.front, _axis(found), _cost(found)
        )
        write_whole(page, drawn.encode())
        if json:
            emit({"recipe": str(to), "page": str(page), "outcome": found.outcome, "evidence": found.evidence})
            return
        _show(found, model, to, page)


def _axis(found: SearchedSchedule) -> str:
    """What prices are."""
    measured = "predicted " if found.outcome.measure in ("ttft", "latency") else ""
    return f"{measured}{_MEASURES[found.outcome.measure]}, share of the whole model"


def _cost(found: SearchedSchedule) -> str:
    return _COSTS[found.evidence.cost]


_MEASURES = {"macs": "MACs", "cache": "KV cache", "ttft": "time to first token", "latency": "time"}
_COSTS = {"kl": "divergence from the whole model", "answers": "log probability that right answers lose"}


def _show(found: SearchedSchedule, model: str, to: Path, page: Path) -> None:
    from edgeprune.models.source import is_classifier
    from edgeprune_runtime.installed import command

    outcome, evidence = found.outcome, found.evidence
    rows = [
        ("uniform", f"{outcome.uniform_price:.3f}", *(f"{cost:.4g}" for cost in outcome.uniform_costs)),
        ("found", f"{_price_of_found(found):.3f}", *(f"{cost:.4g}" for cost in outcome.found_costs)),
    ]
    show_table(
        f"{evidence.target}: {_cost(found)}",
        [
            Column("schedule", left=True),
            Column(outcome.measure),
            Column(f"cost, {evidence.choosing} pictures that chose"),
            Column(f"{evidence.confirming} that confirm"),
        ],
        rows,
    )
    say(f"uniform: {outcome.uniform.text}", indent="  ")
    say(f"found: {outcome.found.text}", indent="  ")
    say(evidence.said)
    lost = [max(0.0, -value) if value == 0 else -value for value in reversed(evidence.points)]
    interval = f"[{lost[0]:.1f}, {lost[2]:.1f}]"
    what = (
        f"loses {lost[1]:.1f} points {interval}"
        if evidence.known
        else f"changes {lost[1]:.1f} {interval} of 100 answers"
    )
    say(f"against the whole model the recipe's schedule {what}, on the pictures that confirm")
    out.print(f"wrote {to}, and the front in {page}", highlight=False)
    classifier = is_classifier(model)
    target = f"{Path(model).stem}-cut" if classifier else f"{Path(model).name}.bundle"
    out.print(
        f"export it with: {command('edgeprune', 'export', model, '--recipe', to, '--out', target)}", highlight=False
    )


def _price_of_found(found: SearchedSchedule) -> float:
    return next((one.price for one in found.outcome.front if one.plan == found.outcome.found.text), found.outcome.price)
