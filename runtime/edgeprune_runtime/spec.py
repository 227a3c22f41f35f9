"""What a manifest says: frozen, validated data, JSON in and out (msgspec).

Shapes are integers by type, so a symbolic dimension cannot even be written down. Sizes in pixels are (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from edgeprune_runtime.frozen import Amount, Extent, Spec
from edgeprune_runtime.pictures.spec import PictureSpec

#: 2: readings of the tower are its graph's outputs. 3: key/value heads per layer. 4: pictures as tilings and sequences, one token plan,
#: keep ratios, learned rows. 5: selections by visual tokens, views of a tile, positions of several axes, rows that enter behind layers.
SCHEMA = 5

Positions = Literal["keep", "renumber"]
Separators = Literal["all", "rows", "none"]
BudgetBase = Literal["largest", "picture"]
WeightPrecision = Literal["fp32", "int8"]  # how weights are stored


ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int8": 1, "bool": 1}


ElementType = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(ITEM_BYTES)})$")]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def bytes_of(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a dense tensor."""
    return math.prod(shape) * ITEM_BYTES[dtype]


class TensorSpec(Spec, frozen=True):
    name: str
    dtype: ElementType
    shape: tuple[Extent, ...]


class GraphWork(Spec, frozen=True):
    """What one run of one graph computes and moves, counted by the exporter.

    macs              multiply-accumulates by kind: conv, linear, linear_int8 (with weights), product, attention (between values)
    pair_macs         of attention over the cache: for each row and each position of the cache that it sees
    weight_bytes      weights read whole, by stored type: fp32, fp16, int8, ...
    activation_bytes  values that computing nodes write, each counted once to write and once to read
    peak_bytes        most values alive at one time, the cache not among them
    cache_bytes       keys and values of one position
    nodes             computing nodes, those in bodies as often as they run
    """

    macs: dict[str, Amount] = {}
    pair_macs: Amount = 0
    weight_bytes: dict[str, Amount] = {}
    activation_bytes: Amount = 0
    peak_bytes: Amount = 0
    cache_bytes: Amount = 0
    nodes: Amount = 0


class GraphSpec(Spec, frozen=True):
    """`work` is there for every graph of a bundle."""

    name: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weight_bytes: Amount
    work: GraphWork | None = None


class TensorRef(Spec, frozen=True):
    """A tensor inside the shared weights file, read by the host without a graph."""

    dtype: Literal["float32", "float16", "int8"]
    shape: tuple[Extent, ...]
    offset: Amount


class StageSpec(Spec, frozen=True):
    """Layers first .. behind - 1 of the language model over one list of rows; names of their graphs, which nobody else knows.

    capacity  positions of their KV cache, a multiple of the chunk
    chunk     positions per run of its prefill graph; None: as in the first stage
    rank      the graph that says which rows of the stage before go on; None: all of them
    keep      how many visual rows go on, of those of the prompt: up to 1 a share, above 1 a count, 0 none; in the first stage, which nothing
              ranks for, at even distances
    returns   whether all visual rows are there again, those that had left as they were before the first layer
    recycles  whether further rows stand for those that leave (`stages.recycled`): means that the ranking makes
    """

    first: Amount
    behind: Extent
    capacity: Extent
    prefill: str = "prefill"
    decode: str = "decode"
    chunk: Extent | None = None
    rank: str | None = None
    keep: float = 1.0
    returns: bool = False
    recycles: bool = False

    def stay(self, visual: int) -> int:
        """How many of so many visual rows go on."""
        if self.keep > 1:
            return min(int(self.keep), visual)
        return 0 if self.keep == 0 else min(visual, max(1, round(self.keep * visual)))


class LanguageSpec(Spec, frozen=True):
    """What the host must know to drive the language-model graphs. A stage hands on all its rows, or those that the next one's `rank` names."""

    hidden: Extent
    layers: Extent
    kv_heads: tuple[Extent, ...]  # per layer: structured pruning removes whole groups
    head_dim: Extent
    vocab: Extent
    stages: tuple[StageSpec, ...]
    chunk: Extent  # positions per run of a prefill graph
    image_token_id: TokenId
    eos_token_ids: tuple[TokenId, ...]
    embedding: TensorRef  # [V, D]
    positions: Extent  # which the tables of angles reach, those of unpruned prompts and of their answers
    learned: TensorRef | None = None  # [D], the learned row of a packed picture
    axes: Extent = 1  # rows of position ids
    deepstack: Amount = 0  # a visual token brings a further row for behind each of the first so many layers
    head: str = "head"

    @property
    def row_width(self) -> int:
        """Numbers of one row of a prompt: D, and D more for each layer behind which visual tokens enter again."""
        return self.hidden * (1 + self.deepstack)

    @property
    def capacity(self) -> int:
        """Positions that a prompt can have: of the stages before the first one that rows leave before."""
        return min(stage.capacity for stage in self.stages[: self.cuts[0] if self.cuts else None])

    @property
    def cuts(self) -> tuple[int, ...]:
        """Numbers of the stages into which another list of rows goes than the one before has."""
        return tuple(number for number, stage in enumerate(self.stages) if stage.rank is not None or stage.returns)

    def chunk_of(self, stage: StageSpec) -> int:
        """Positions per run of a stage's prefill graph."""
        return stage.chunk or self.chunk

    def width_before(self, layer: int) -> int:
        """Numbers of a row on its way into a layer: D, and D more for each layer from there on behind which visual tokens enter."""
        return self.hidden * (1 + max(0, self.deepstack - layer))

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of all graphs of the language model."""
        named = ((stage.rank, stage.prefill, stage.decode) for stage in self.stages)
        return (*(name for names in named for name in names if name is not None), self.head)

    @property
    def cache_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shape of the keys, and of the values, of every layer."""
        return tuple(
            (1, self.kv_heads[layer], stage.capacity, self.head_dim)
            for stage in self.stages
            for layer in range(stage.first, stage.behind)
        )


class SelectionSpec(Spec, frozen=True):
    """One select graph: exactly `keep` tokens, for pictures of `tokens` visual tokens, padding included (None: any).

    budget      as the user wrote it, the label under which it is asked for
    keep_ratio  the same as a share of the candidates of the largest picture, above 0 up to 1
    tower       the graph whose outputs it reads; a method that drops tokens inside the tower has one of its own. Where tiles have views
                there is one for each, see `tower_of`
    whole       nothing is dropped
    own         of the plan's method or whole: what a request without a method means; others are there to be compared
    """

    budget: str
    keep_ratio: float
    method: str
    keep: Extent
    tokens: Extent | None
    graph: str
    tower: str = "tower"
    whole: bool = False
    own: bool = True


def tower_of(tower: str, view: tuple[int, int] | None) -> str:
    """Name of the graph of a tower for tiles of which only `view` (height, width in pixels) is looked at."""
    return tower if view is None else f"{tower}-{view[0]}x{view[1]}"


class InsideSpec(Spec, frozen=True):
    """How tokens leave inside the tower or inside the language model; which of them is known by the method.

    method    a name in `edgeprune.tokens.inside.INSIDE`
    layers    ascending: blocks of the tower, or layers of the language model before which rows leave
    keep      what stays at each: above 0 up to 1 a share, of the tokens that arrive there (tower) or of the picture's rows that enter the
              language model; above 1 a count; 0 none (language model)
    settings  numbers of the method by name; what is absent has its default
    """

    method: str
    layers: tuple[Amount, ...]
    keep: tuple[float, ...]
    settings: dict[str, float] = {}


class TokenPlan(Spec, frozen=True):
    """How K visual tokens are chosen and handed to the language model: in a recipe, on the command line and in a manifest.

    method      a name in `edgeprune.tokens.methods.METHODS`; None: the default of the model. A manifest of an export has a name
    settings    numbers of the method by name, as `edgeprune methods NAME` lists them; what is absent has its default
    positions   "keep": a kept token keeps the position it had in the unpruned sequence; "renumber": positions are contiguous
    separators  what stands between groups of visual tokens (newlines of mosaic rows) below budget 1.0. "all": stays where a group lost
                all its tokens; "rows": leaves with them; "none": leaves altogether
    budget_of   "largest": a ratio counts from the largest tile grid, so K is one number; "picture": from each picture's own tiles
    inside      where tokens leave inside the tower and inside the language model: at most one for each
    """

    method: str | None = None
    settings: dict[str, float] = {}
    positions: Positions = "keep"
    separators: Separators = "all"
    budget_of: BudgetBase = "largest"
    inside: tuple[InsideSpec, ...] = ()

    def positions_for(self, *selections: SelectionSpec) -> Positions:
        """The policy for pictures under these selections: where none loses a token, every row has its own position."""
        return "keep" if all(selection.whole for selection in selections) else self.positions

    def separators_for(self, selection: SelectionSpec) -> Separators:
        """The policy for a picture under this selection: a whole picture loses none."""
        return "all" if selection.whole else self.separators


class FileSpec(Spec, frozen=True):
    sha256: Digest
    bytes: Amount


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
    precision: WeightPrecision
    picture: PictureSpec
    language: LanguageSpec
    plan: TokenPlan
    selections: tuple[SelectionSpec, ...]
    graphs: tuple[GraphSpec, ...]
    weights_file: str
    files: dict[str, FileSpec]
    parity: ParityReport
    provenance: Provenance
    special_tokens: dict[str, str] = {}

    @property
    def work(self) -> dict[str, GraphWork]:
        """Of every graph, by name."""
        return {graph.name: graph.work for graph in self.graphs if graph.work is not None}
