"""What a user may ask of an export, and the numbers that follow from it: one K per select graph, one cache capacity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeprune.errors import PlanError
from edgeprune.models import Checkpoint
from edgeprune.models.families import Family
from edgeprune.models.spec import ModelSpec
from edgeprune.plan import Budget
from edgeprune.tokens.inside.text import require_one_per_part, require_sound
from edgeprune.tokens.inside.tower.plan.of_model import WHOLE, tower_plan
from edgeprune.tokens.methods import CONTROLS, METHODS
from edgeprune.tokens.methods.controls import FULL
from edgeprune.tokens.registry.fit import method_plan, require_fit, with_default
from edgeprune_runtime.checks.language import MOST_POSITIONS
from edgeprune_runtime.checks.room import memory_at_hand
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.spec import SelectionSpec, TokenPlan, WeightPrecision, in_vision

StageRoom = Literal["all", "kept"]


@dataclass(frozen=True)
class ExportOptions:
    """What to put into a bundle.

    budgets       the first is the default
    plan          without a method: the model's default, see `settled`
    more_methods  beside the plan's own, at every budget
    capacity      None: room for the largest prompt plus `text_tokens`, rounded up to a chunk
    stage_chunk   positions per run of stages behind a cut in the language model; None: as `chunk`, at most 64
    stage_room    positions of their caches: "all" rows of a prompt, or those that are "kept"
    tiles         most tiles of a picture beside its overview, 0: one view of it; None: as the checkpoint's processor does it
    sizes, tokens  grids of a model that takes pictures of any size: (height, width) in pixels, or visual tokens; None: the family's own
    pictures      room for so many in one prompt, each at its largest
    family        how to read the checkpoint; None: as the family that its config.json names
    """

    budgets: tuple[Budget, ...]
    plan: TokenPlan = TokenPlan()
    more_methods: tuple[str, ...] = ()
    precision: WeightPrecision = "fp32"
    chunk: int = 128
    capacity: int | None = None
    text_tokens: int = 512
    stage_chunk: int | None = None
    stage_room: StageRoom = "all"
    tiles: int | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    tokens: int | None = None
    pictures: int = 1
    family: Family | None = None
    controls: bool = True
    parity: bool = True
    force: bool = False
    command: str = "edgeprune_export.commands.export"

    def __post_init__(self) -> None:
        if not self.budgets or self.chunk < 1 or self.text_tokens < 1:
            raise PlanError(
                f"{len(self.budgets)} budgets, chunk {self.chunk} and text tokens {self.text_tokens} make no bundle; "
                "give at least one of each"
            )
        if self.stage_chunk is not None and self.stage_chunk < 1:
            raise PlanError(f"stage_chunk is {self.stage_chunk}; expected 1 or more")
        if self.pictures < 1:
            raise PlanError(f"pictures is {self.pictures}; expected 1 or more")
        if self.sizes is not None and self.tokens is not None:
            raise PlanError("grids and a number of tokens both say how large pictures become; give one of them")
        if self.tiles is not None and self.tiles < 0:
            raise PlanError(f"tiles is {self.tiles}; expected 0 (one view of the whole picture) or more")
        for one in self.plan.inside:
            require_sound(one)
        require_one_per_part(self.plan.inside)

    @property
    def methods(self) -> tuple[str, ...]:
        """Of every budget below 1.0, the plan's own first. Only of options that are settled."""
        assert self.plan.method is not None
        return tuple(dict.fromkeys((self.plan.method, *self.more_methods, *(CONTROLS if self.controls else ()))))


def require_vision(precision: WeightPrecision) -> None:
    """Raise PlanError for a way to store weights that is for language models only."""
    if precision != in_vision(precision):
        raise PlanError(
            f"{precision} is for language models, which a classifier has not; store it in {in_vision(precision)}"
        )


def settled(
    options: ExportOptions, checkpoint: Checkpoint, tell: Callable[[str], None] = lambda sentence: None
) -> ExportOptions:
    """The options with a method that fits the checkpoint, the default where they name none. Raises PlanError for one that does not fit.

    tell  is given a sentence where the default had to be another than usual
    """
    model, held = checkpoint.spec, checkpoint.weights.shapes
    plan, why = with_default(options.plan, model, held, METHODS)
    options = replace(options, plan=plan)
    require_fit(options.methods, method_plan(plan, model), model, held, METHODS)
    if why is not None and not all(budget.is_full for budget in options.budgets):
        tell(why)
    return options


def selections(options: ExportOptions, picture: PictureSpec) -> tuple[SelectionSpec, ...]:
    """One entry per budget, method and, where K depends on the picture, number of its tokens."""
    found: list[SelectionSpec] = []
    largest = picture.candidates_max
    for budget in dict.fromkeys(options.budgets):
        if budget.count is not None and budget.count >= largest:
            raise PlanError(
                f"budget {budget.label} does not bind: a picture has at most {largest} visual tokens; use 1.0 or fewer than {largest}"
            )
        by_picture = budget.is_full or (options.plan.budget_of == "picture" and budget.ratio is not None)
        for tokens in picture.token_counts if by_picture else (None,):
            candidates = largest if tokens is None else tokens
            for method in (FULL.name,) if budget.is_full else options.methods:
                keep = budget.keep(candidates)
                found.append(
                    SelectionSpec(
                        budget=budget.label,
                        keep_ratio=budget.keep_ratio(largest),
                        method=method,
                        keep=keep,
                        tokens=tokens,
                        graph=f"select-{method}-k{keep}",
                        tower=_tower(method, keep, options.plan),
                        whole=budget.is_full,
                        own=budget.is_full or method == options.plan.method,
                    )
                )
    return tuple(found)


def _tower(method: str, keep: int, plan: TokenPlan) -> str:
    """Name of the tower that a selection reads."""
    if METHODS[method].own_cuts is not None:
        return f"{WHOLE}-{method}-k{keep}"
    cut = tower_plan(plan.inside)
    return WHOLE if cut is None or method == FULL.name else f"{WHOLE}-{cut.method}"


def packed_max(picture: PictureSpec, keep: int) -> int:
    """Longest packed picture when at most `keep` tokens of it are kept, all that separates them included."""
    return min(keep, picture.candidates_max) + picture.separators_max


def capacity(options: ExportOptions, chosen: Sequence[SelectionSpec], model: ModelSpec) -> int:
    """Positions of the KV cache: a multiple of the chunk. Raises PlanError when the model cannot have that many."""
    longest = options.pictures * max(packed_max(model.picture, s.keep) for s in chosen)
    wanted = options.capacity or longest + options.text_tokens
    size = -(-wanted // options.chunk) * options.chunk
    if size < longest + options.chunk and options.capacity is not None:
        raise PlanError(
            f"capacity {options.capacity} leaves no room for text: a picture alone takes up to {longest} positions; "
            f"give at least {longest + options.chunk} or a smaller budget"
        )
    language = model.language
    cache = 8 * size * language.head_dim * sum(language.at(i).kv_heads for i in range(language.layers))
    at_hand = memory_at_hand() if options.parity else None  # the gate runs the bundle here
    if size > MOST_POSITIONS or (at_hand is not None and cache > at_hand):
        left = "" if at_hand is None else f", in the {at_hand / 2**30:.1f} GiB that this machine has left"
        raise PlanError(
            f"a cache of {size} positions takes {cache / 2**30:.1f} GiB; expected at most {MOST_POSITIONS} positions{left}; "
            "give a smaller --capacity or budget"
        )
    window = model.language.sliding_window
    if window is not None and window < size:
        raise PlanError(
            f"the language model attends to {window} positions only, the bundle needs {size}; choose a smaller budget or --capacity {window}"
        )
    return size
