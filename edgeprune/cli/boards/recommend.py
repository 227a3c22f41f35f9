"""edgeprune recommend: which board to take at which budget, and what to measure to be sure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli.boards.subject import Subject, is_bundle, model_argument, subject_of
from edgeprune.cli.console import Json, emit, errors_as_one_line, remark
from edgeprune.cli.options import (
    AccuracyFile,
    AccuracyOption,
    MaxTokens,
    MeasuredRuns,
    PictureSize,
    TokensPerS,
    Ttft,
    budget_option,
    device_option,
    max_memory_option,
    prompt_option,
)

if TYPE_CHECKING:
    from edgeprune_profiles.boards.decision.decide import Decision
    from edgeprune_profiles.boards.recommend import BoardChoice, BoardOption, Needs
    from edgeprune_profiles.record.profile import Accuracy


def recommend(
    model: Annotated[str, model_argument()],
    ttft: Ttft = None,
    tokens_per_s: TokensPerS = None,
    accuracy: AccuracyOption = None,
    max_power: Annotated[str | None, typer.Option("--max-power", help="Watts of the board: 15W.")] = None,
    max_memory: Annotated[str | None, max_memory_option()] = None,
    max_price: Annotated[str | None, typer.Option("--max-price", help="Price in US dollars: 400.")] = None,
    evaluation: AccuracyFile = None,
    device: Annotated[list[str] | None, device_option("all, in all their modes")] = None,
    budget: Annotated[list[str] | None, budget_option("all of the bundle, else 0.1, 0.2, 0.5 and 1.0")] = None,
    report: MeasuredRuns = None,
    prompt: Annotated[str, prompt_option()] = "What is in this picture?",
    size: PictureSize = None,
    max_tokens: MaxTokens = 16,
    every: Annotated[bool, typer.Option("--all", help="Every board in every mode at every budget.")] = False,
    json: Json = False,
) -> None:
    """Say which board to take for MODEL at which budget: measured where there are runs, else projected."""
    if accuracy is not None and evaluation is None:
        raise typer.BadParameter(
            "--accuracy needs --eval FILE, as `edgeprune eval BUNDLE --data QUESTIONS --out FILE` writes it"
        )
    with errors_as_one_line():
        from edgeprune_profiles.boards.decision.accuracy import accuracy_need
        from edgeprune_profiles.boards.decision.decide import decide
        from edgeprune_profiles.boards.from_runs import options_on_boards, read_runs, samples_of
        from edgeprune_profiles.boards.model import ProjectedRequest
        from edgeprune_profiles.boards.recommend import Needs
        from edgeprune_profiles.boards.recommend import recommend as choose
        from edgeprune_profiles.record import quantities as q
        from edgeprune_profiles.record.profile import load_accuracy

        needs = Needs(
            ttft_s=None if ttft is None else q.quantity(ttft, q.SECONDS, "--ttft"),
            tokens_per_s=None if tokens_per_s is None else q.quantity(tokens_per_s, q.PER_SECOND, "--tokens-per-s"),
            power_w=None if max_power is None else q.quantity(max_power, q.WATTS, "--max-power"),
            memory_bytes=None if max_memory is None else round(q.quantity(max_memory, q.BYTES, "--max-memory")),
            price_usd=None if max_price is None else q.quantity(max_price, q.DOLLARS, "--max-price"),
            accuracy=None if accuracy is None else accuracy_need(accuracy),
        )
        request = ProjectedRequest(prompt, max_tokens, None if size is None else q.size_px(size, "--size"))
        evaluated = None if evaluation is None else load_accuracy(evaluation)
        subject = subject_of(model, budget or _ratios(evaluated, model), request)
        _warn_of_another(evaluation, evaluated, subject)
        runs = read_runs(report or [], subject.bundle)
        samples = samples_of(runs, request.size)
        found, left_out = options_on_boards(subject.model, subject.budgets, device or [], runs, samples)
        choices = choose([_with_accuracy(one, evaluated) for one in found], needs)
        decision = decide(choices, needs)
        if json:
            emit(
                {
                    "needs": needs,
                    "decision": _decision_data(decision, needs, choices),
                    "choices": [_as_data(choice) for choice in choices],
                    "left_out": left_out,
                    "measure_next": None if decision.measure is None else _as_data(decision.measure),
                }
            )
            return
        from edgeprune.cli.boards.recommend_text import show

        show(subject, decision, needs, choices, left_out, max_tokens, every)


def _ratios(evaluated: Accuracy | None, model: str) -> list[str]:
    """Of a model without a bundle, the budgets that were evaluated."""
    if evaluated is None or is_bundle(model):
        return []
    return [f"{ratio:g}" for ratio in dict.fromkeys(row.keep_ratio for row in evaluated.rows)]


def _with_accuracy(one: BoardOption, evaluated: Accuracy | None) -> BoardOption:
    from edgeprune_profiles.boards.decision.accuracy import accuracy_of_budget

    if evaluated is None:
        return one
    return dataclasses.replace(one, accuracy=accuracy_of_budget(evaluated, one.method, one.keep_ratio))


def _warn_of_another(path: Path | None, evaluated: Accuracy | None, subject: Subject) -> None:
    """An evaluation of something else may still say something; that it is something else must be said."""
    of = None if evaluated is None else evaluated.settings.get("bundle")
    if of is not None and (subject.bundle is None or subject.bundle.sha256 != of):
        remark(
            f"{path} was evaluated with another bundle ({of[:12]}) than {subject.source}; its accuracies are taken over"
        )


def _decision_data(decision: Decision, needs: Needs, choices: tuple[BoardChoice, ...]) -> dict[str, object]:
    from edgeprune_profiles.boards.decision.sentences import decision_sentences

    return {
        "verdict": decision.verdict,
        "sentences": decision_sentences(decision, needs, choices),
        "choice": None if decision.choice is None else _as_data(decision.choice),
        "cheaper": None if decision.cheaper is None else _as_data(decision.cheaper),
        "concede": [{"choice": _as_data(one.choice), "relax": one.relax} for one in decision.concede],
    }


def _as_data(choice: BoardChoice) -> dict[str, object]:
    one = choice.candidate
    price = one.device.market.price_usd
    return {
        "device": one.device.name,
        "title": one.device.title,
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
        "price": None if price is None else {"kind": price.kind, "date": one.device.dated(price)},
        "memory": {"parts": one.memory, "verdict": one.memory.verdict},
        "accuracy": one.accuracy,
    }
