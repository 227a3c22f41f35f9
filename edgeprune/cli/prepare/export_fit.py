"""edgeprune export --fit: the largest budget whose projection meets a target on a board, before anything is exported."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from edgeprune.cli.console import err

if TYPE_CHECKING:
    from edgeprune.models.families import Family
    from edgeprune.plan import Budget

#: Tokens of the question and the chat template that the prompt is taken to have beside the picture, and of the answer.
TEXT_TOKENS, ANSWER_TOKENS = 64, 16


def fitted_budget(
    model: str, text: str, precision: Literal["fp32", "int8"], chunk: int, tiles: int | None, family: Family | None
) -> Budget:
    """The whole interval must meet the target, on a picture that fills the largest tile grid. Raises MeasurementError if none does."""
    from edgeprune.models.checkpoint import open_checkpoint
    from edgeprune.plan import budget_from_text
    from edgeprune_export.bundle.counts import count_spec
    from edgeprune_profiles.boards.device_file import load_device
    from edgeprune_profiles.boards.project import StageProjection, first_token_s, project_stages, rate, target
    from edgeprune_profiles.boards.published import published_samples
    from edgeprune_profiles.boards.recommend import largest_budget
    from edgeprune_profiles.measure.work import GraphWork, RequestShape
    from edgeprune_profiles.record import quantities as q
    from edgeprune_profiles.report import units
    from edgeprune_runtime.errors import MeasurementError
    from edgeprune_runtime.pictures.packed import pack_picture

    asked = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if "device" not in asked or set(asked) - {"device", "ttft", "tokens-per-s"} or len(asked) < 2:
        raise MeasurementError(
            f"--fit is {text!r}; expected device=NAME with ttft=TIME, tokens-per-s=NUMBER or both, as device=orin-nano-8gb,ttft=1s"
        )
    most_s = q.quantity(asked["ttft"], q.SECONDS, "ttft in --fit") if "ttft" in asked else None
    least = (
        q.quantity(asked["tokens-per-s"], q.PER_SECOND, "tokens-per-s in --fit") if "tokens-per-s" in asked else None
    )
    spec = open_checkpoint(model, family, tiles).spec
    where = target(load_device(asked["device"]), precision)
    picture = pack_picture(spec.picture.place(*spec.picture.largest), spec.picture)
    whole = picture.candidates

    def projected(keep: int) -> tuple[StageProjection, ...]:
        graphs = {name: GraphWork(**asdict(count)) for name, count in count_spec(spec, precision, chunk, keep).items()}
        positions = keep + picture.length - whole + spec.picture.sequence.text_tokens + TEXT_TOKENS
        shape = RequestShape(
            str(keep), "", "select", "tower", keep / whole, picture.tiles, keep, positions, ANSWER_TOKENS
        )
        return project_stages(spec.source, chunk, graphs, shape, where, published_samples())

    def meets(keep: int) -> bool:
        stages = projected(keep)
        soon = most_s is None or first_token_s(stages).high <= most_s
        return soon and (least is None or rate(stages[-1].time_s).low >= least)

    found = largest_budget(meets, whole)
    if found is None:
        one = projected(1)
        raise MeasurementError(
            f"no budget meets {text}: with a single token the first one may take up to {units.seconds(first_token_s(one).high)} and "
            f"{units.rate(rate(one[-1].time_s).low)} tokens/s may be all; a budget does not shorten the tower: prune it, or change the board"
        )
    time = first_token_s(projected(found))
    err.print(
        f"budget {'1.0' if found == whole else found}: the largest of {whole} visual tokens for {text}; projected, not measured: first token "
        f"after {units.seconds(time.point)} [{units.seconds(time.low)}, {units.seconds(time.high)}]",
        highlight=False,
    )
    return budget_from_text("1.0" if found == whole else str(found))
