"""What a manifest says: frozen, validated data, JSON in and out (msgspec).

Shapes are integers by type, so a symbolic dimension cannot even be written down. Sizes in pixels are (height, width).
"""

from __future__ import annotations

from typing import Literal

from edgeprune_runtime.frozen import Spec
from edgeprune_runtime.pictures.spec import PictureSpec

#: 2: readings of the tower are its graph's outputs; plans carry settings. 3: key/value heads per layer. 4: pictures as tilings and
#: sequences, learned rows, stages of the language model.
SCHEMA = 4


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
    learned: TensorRef | None = None  # [D], the learned row of a packed picture
    axes: int = 1  # rows of position ids


class PlanSpec(Spec, frozen=True):
    """The token plan the bundle was made with; the meaning of each field is in `edgeprune.plan.TokenPlan`."""

    method: str
    alpha: float
    early_layer: int
    feature_layer: int
    last_layer: int
    seed: int
    position_ids: Literal["keep", "renumber"]
    newline: Literal["all", "rows", "none"]
    budget_of: Literal["largest", "picture"]
    settings: dict[str, float]


class SelectionSpec(Spec, frozen=True):
    """One select graph: `budget` as the user wrote it, exactly `keep` tokens, for pictures of `tiles` tiles (None: any).

    tower: the graph whose outputs it reads; a method that drops tokens inside the tower has one of its own.
    """

    budget: str
    method: str
    keep: int
    tiles: int | None
    graph: str
    tower: str = "tower"


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
    picture: PictureSpec
    language: LanguageSpec
    plan: PlanSpec
    selections: tuple[SelectionSpec, ...]
    graphs: tuple[GraphSpec, ...]
    weights_file: str
    files: dict[str, FileSpec]
    parity: ParityReport
    provenance: Provenance
    special_tokens: dict[str, str] = {}
