"""A recipe: token plan, structure plan and stored weights of one export in a TOML file, checked when it is read.

[tokens]
budgets = [0.2, 1.0]
method = "hired"                # without one: hired where it fits, else divprune

[structure]
images = "photographs"          # relative to the recipe
recover = { steps = 200, lora = 8 }

[structure.tower]
target = "macs=0.7"

[structure.language]
target = "params=0.8"
blocks = 1

[export]
weights = "int8"
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeprune.errors import PlanError
from edgeprune.plan import Budget, budget_from_text
from edgeprune.structure.request import StructureRequest
from edgeprune.structure.targets import target_from_text
from edgeprune_runtime.spec import TokenPlan, WeightPrecision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    pass


class Tokens(TokenPlan, frozen=True, rename="kebab"):
    """The token plan, its budgets, and `methods` beside its own, for comparison."""

    budgets: tuple[float, ...] = (1.0,)
    methods: tuple[str, ...] = ()


class RecipePart(_Part, frozen=True):
    """What one part gives up; see `edgeprune prune --help`."""

    target: str
    importance: str = StructureRequest.importance
    allocation: str = StructureRequest.allocation
    normalise: str = StructureRequest.normalise
    align: int = StructureRequest.align
    blocks: int = StructureRequest.blocks
    block_importance: str = StructureRequest.block_importance

    def request(self, seed: int) -> StructureRequest:
        return StructureRequest(
            **{**msgspec.structs.asdict(self), "target": target_from_text(self.target), "seed": seed}
        )


class Recover(_Part, frozen=True):
    """A short training after pruning. lora = 0 trains every weight of the pruned blocks."""

    steps: int = 200
    batch: int = 16
    lora: int = 0
    rate: float = 1e-4


class Structure(_Part, frozen=True):
    """`images`: a folder of pictures, a .jsonl of questions or a .csv of labels, relative to the recipe."""

    tower: RecipePart | None = None
    language: RecipePart | None = None
    images: str | None = None
    limit_images: int = 64
    seed: int = 0
    compensate: bool = True
    recover: Recover | None = None
    plan: str | None = None


class Export(_Part, frozen=True):
    weights: WeightPrecision = "fp32"
    chunk: int = 128
    capacity: int | None = None
    text_tokens: int = 512
    stage_chunk: int | None = None
    stage_room: Literal["all", "kept"] = "all"
    tiles: int | None = None
    grids: tuple[tuple[int, int], ...] | None = None  # (height, width) in pixels
    tokens: int | None = None
    max_images: int = 1
    controls: bool = True


class Recipe(_Part, frozen=True):
    """A whole recipe. Relative paths in it start at the folder of its file."""

    tokens: Tokens = Tokens()
    structure: Structure | None = None
    export: Export = Export()

    def token_plan(self) -> TokenPlan:
        return TokenPlan(**{name: getattr(self.tokens, name) for name in TokenPlan.__struct_fields__})

    def budgets(self) -> tuple[Budget, ...]:
        return tuple(budget_from_text(f"{budget:g}") for budget in self.tokens.budgets)


def read_recipe(path: Path) -> Recipe:
    """Raises PlanError for a file that is missing, no TOML, or says something that no recipe has."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read ({error.strerror}); give a recipe, a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML ({error}); docs/examples/small.toml is a recipe") from error
    except RecursionError as error:
        raise PlanError(f"{path} nests values too deeply for a recipe; docs/examples/small.toml is one") from error
    try:
        return msgspec.convert(table, Recipe)
    except msgspec.ValidationError as error:
        raise PlanError(f"{path}: {error}; docs/examples/small.toml is a recipe") from error
