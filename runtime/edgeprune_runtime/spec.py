"""What a manifest says: frozen, validated data, JSON in and out (msgspec).

Shapes are integers by type, so a symbolic dimension cannot even be written down. Sizes in pixels are (height, width).
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = (
    4  # 2: readings of the tower are its graph's outputs. 3: key/value heads per layer. 4: one token plan, keep ratios
)

Positions = Literal["keep", "renumber"]
Separators = Literal["all", "rows", "none"]
BudgetBase = Literal["largest", "picture"]


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all manifest data: immutable, equal by value, unknown fields refused."""


class Preprocess(Spec, frozen=True):
    """From a picture to tiles. Mirrors the checkpoint's own preprocessor_config.json.

    anyres=True is LLaVA-NeXT (thumbnail + tiles on the best pinpoint, padded); anyres=False is LLaVA-1.5 (one tile).
    """

    anyres: bool
    tile_px: int
    patches: int  # per side of a tile; N = patches * patches tokens, and extra_tokens; what tile_px has beyond them is unseen
    pinpoints: tuple[tuple[int, int], ...]  # (height, width) candidates; () when anyres is False
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float = 1 / 255
    resample: int = 3  # Pillow's number: 3 = bicubic
    resize_shortest: int | None = None  # LLaVA-1.5: resize the shortest edge to this, then centre crop to tile_px
    resize_exact: tuple[int, int] | None = None  # LLaVA-1.5 variants that squash to (height, width)
    extra_tokens: int = 0  # visual tokens before the patches that are no patch: DeiT's distillation token in LLaVA-1.5
    pad_to_square: bool = False  # LLaVA-1.5 original: pad to a square with the mean colour first

    @property
    def patch_px(self) -> int:
        """Side of a patch: tiles have fewer pixels beyond the last whole patch than patches on a side."""
        return self.tile_px // self.patches

    @property
    def tokens_per_tile(self) -> int:
        return self.extra_tokens + self.patches * self.patches

    @property
    def tiles_max(self) -> int:
        """Largest number of tiles of any picture, thumbnail included."""
        return 1 + max((h // self.tile_px) * (w // self.tile_px) for h, w in self.pinpoints) if self.anyres else 1

    @property
    def candidates_max(self) -> int:
        return self.tiles_max * self.tokens_per_tile


class TensorSpec(Spec, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]


class GraphSpec(Spec, frozen=True):
    name: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weight_bytes: int


class TensorRef(Spec, frozen=True):
    """A tensor inside the shared weights file, read by the host without a graph."""

    dtype: Literal["float32", "float16", "int8"]
    shape: tuple[int, ...]
    offset: int


class LanguageSpec(Spec, frozen=True):
    """What the host must know to drive the language-model graphs."""

    hidden: int
    layers: int
    kv_heads: tuple[int, ...]  # per layer: structured pruning removes whole groups
    head_dim: int
    vocab: int
    capacity: int  # positions of the KV cache, a multiple of chunk
    chunk: int  # positions per run of the prefill graph
    image_token_id: int
    eos_token_ids: tuple[int, ...]
    embedding: TensorRef  # [V, D]
    newline: TensorRef | None  # [D]


class SelectionSpec(Spec, frozen=True):
    """One select graph: exactly `keep` tokens, for pictures of `tiles` tiles (None: any).

    budget      as the user wrote it, the label under which it is asked for
    keep_ratio  the same as a share of the candidates of the largest picture, above 0 up to 1
    tower       the graph whose outputs it reads; a method that drops tokens inside the tower has one of its own
    whole       nothing is dropped
    own         of the plan's method or whole: what a request without a method means; others are there to be compared
    """

    budget: str
    keep_ratio: float
    method: str
    keep: int
    tiles: int | None
    graph: str
    tower: str = "tower"
    whole: bool = False
    own: bool = True


class TokenPlan(Spec, frozen=True):
    """How K visual tokens are chosen and handed to the language model: in a recipe, on the command line and in a manifest.

    method      a name in `edgeprune.tokens.methods.METHODS`
    settings    numbers of the method by name, as `edgeprune methods NAME` lists them; what is absent has its default
    positions   "keep": a kept token keeps the position it had in the unpruned sequence; "renumber": positions are contiguous
    separators  what stands between groups of visual tokens (newlines of mosaic rows) below budget 1.0. "all": stays where a group lost
                all its tokens; "rows": leaves with them; "none": leaves altogether
    budget_of   "largest": a ratio counts from the largest tile grid, so K is one number; "picture": from each picture's own tiles
    """

    method: str = "hired"
    settings: dict[str, float] = {}
    positions: Positions = "keep"
    separators: Separators = "all"
    budget_of: BudgetBase = "largest"

    def separators_for(self, selection: SelectionSpec) -> Separators:
        """The policy for a picture under this selection: a whole picture loses none."""
        return "all" if selection.whole else self.separators


class FileSpec(Spec, frozen=True):
    sha256: str
    bytes: int


class ParityCheck(Spec, frozen=True):
    """One comparison of graph and eager reference: `value` must not pass `limit` in the sense of `rule`."""

    name: str
    budget: str
    value: float
    limit: float
    rule: Literal["at most", "at least"]
    passed: bool


class ParityReport(Spec, frozen=True):
    """Outcome of the gate; `skipped` says why when it did not run."""

    skipped: str | None
    reference: str
    pictures: int
    checks: tuple[ParityCheck, ...] = ()


class Provenance(Spec, frozen=True):
    created: str
    command: str
    versions: dict[str, str]
    source: str
    source_sha256: dict[str, str]


class Manifest(Spec, frozen=True):
    """manifest.json of a sealed bundle."""

    schema: int
    name: str
    family: str
    precision: Literal["fp32", "int8"]
    preprocess: Preprocess
    language: LanguageSpec
    plan: TokenPlan
    selections: tuple[SelectionSpec, ...]
    graphs: tuple[GraphSpec, ...]
    weights_file: str
    files: dict[str, FileSpec]
    parity: ParityReport
    provenance: Provenance
    special_tokens: dict[str, str] = {}
