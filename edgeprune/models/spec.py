"""What a checkpoint says about its model: frozen data, no tensors.

The vocabulary is edgeprune's own, so that one description serves every family: a tower of pre-norm transformer blocks
with or without a class token, a connector that merges patches, a decoder with rotary positions. What differs between kinds is a value
here, so that nobody asks for a kind. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgeprune_runtime.pictures.spec import PictureSpec

RopeKind = Literal["default", "linear", "llama3", "yarn"]


@dataclass(frozen=True)
class Width:
    """What one block has: head groups (in a tower every head is its own) and inner channels of its MLP."""

    groups: int
    mlp: int


@dataclass(frozen=True)
class TowerSpec:
    """A vision tower. `layers` counts all blocks of the source; only those up to the feature layer are ever read.

    kind  its name in messages
    """

    kind: str
    layers: int
    hidden: int
    heads: int
    head_dim: int
    mlp: int  # inner width of the MLP; with swiglu, the width of each of its two halves
    image_px: int  # side of a tile; where tiles have views, of the square that holds them all
    patch_px: int
    activation: str  # "quick_gelu", "gelu", "gelu_tanh", "relu" or "silu"; with swiglu always "silu"
    eps: float
    prefix_tokens: int  # class token, and DeiT's distillation token; none in SigLIP
    norm: Literal["layer", "rms"] = "layer"  # of every block
    pre_norm: bool = False  # a norm between the embeddings and block 0 (CLIP)
    final_norm: bool = False  # a norm between the feature layer and the connector
    patch_bias: bool = True
    qkv_bias: bool = True
    layer_scale: bool = False
    swiglu: bool = False
    rotary: float | None = None  # base of rotary positions by patch row and column; None: none
    table: int | None = (
        None  # side of a square table of positions that is resampled to the patches; 0: none; None: a row per position
    )
    frames: int = 1  # of the patch kernel; a still picture is the same frame so many times
    window: int | None = None  # patches along a side of a window that blocks attend inside; None: to the whole tile
    full: tuple[int, ...] = ()  # blocks that attend to the whole tile all the same
    tapped: tuple[int, ...] = ()  # blocks whose output goes on besides the feature layer's
    view: tuple[int, int] | None = (
        None  # (height, width) in pixels of the part of a tile that is looked at; None: all of it
    )
    widths: tuple[Width, ...] = ()  # per block, where blocks differ; heads and mlp are then those of the source

    def at(self, block: int) -> TowerSpec:
        """The tower as block `block` sees it: its own heads and MLP width."""
        if not self.widths:
            return self
        return replace(self, heads=self.widths[block].groups, mlp=self.widths[block].mlp, widths=())

    @property
    def inner(self) -> int:
        """Width of queries, keys and values: C, unless heads were pruned."""
        return self.heads * self.head_dim

    @property
    def patches(self) -> int:
        """Patches along one side of a tile; pixels beyond the last whole patch are not looked at."""
        return self.image_px // self.patch_px

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches that are looked at."""
        height, width = self.view or (self.image_px, self.image_px)
        return height // self.patch_px, width // self.patch_px

    @property
    def positions(self) -> int:
        """Rows that a block computes: prefix tokens, then patches."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]

    def window_of(self, block: int) -> int | None:
        """Patches along a side of the windows of this block; None: it attends to the whole tile."""
        return None if block in self.full else self.window

    @property
    def must_stay(self) -> frozenset[int]:
        """Blocks that pruning cannot take out: their output goes on, or windows meet nowhere else."""
        return frozenset((*self.full, *self.tapped))

    @property
    def class_tokens(self) -> int:
        """1, or 0 for a tower without a class token. It comes first, and never goes on."""
        return min(self.prefix_tokens, 1)

    @property
    def tokens(self) -> int:
        """Rows of a tile without the class token; the connector may merge several into one visual token."""
        return self.positions - self.class_tokens


@dataclass(frozen=True)
class ConnectorSpec:
    """From tower rows of `inputs` channels to visual tokens of `outputs`: merge, norm, one or two linear layers.

    merge  patches along a side of a block that becomes one visual token, their channels side by side in raster order
    norm   a norm over the channels of each patch ("before" merging) or of the block ("after"), or none
    inner  channels between two linear layers; None: as many as `outputs`
    """

    inputs: int
    outputs: int
    activation: str = "gelu"
    bias: bool = True
    merge: int = 1
    norm: Literal["before", "after"] | None = None
    norm_kind: Literal["layer", "rms"] = "layer"
    eps: float = 1e-5
    layers: Literal[1, 2] = 2
    inner: int | None = None

    @property
    def merged(self) -> int:
        """Channels of one visual token before the first linear layer."""
        return self.inputs * self.merge**2

    @property
    def middle(self) -> int:
        """Channels behind the first of two linear layers."""
        return self.inner or self.outputs


@dataclass(frozen=True)
class RopeSpec:
    """Rotary positions: base `theta` and, for scaled kinds, the numbers of the scaling (all resolved)."""

    theta: float
    kind: RopeKind = "default"
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderSpec:
    """A pre-norm causal decoder with RMS norm, rotary positions, grouped-query attention and a gated MLP."""

    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    eps: float
    activation: str
    tied: bool  # the head is the embedding table
    rope: RopeSpec
    max_positions: int
    attention_bias: bool = False  # on q, k, v
    output_bias: bool = False  # on o
    mlp_bias: bool = False
    pair_axes: tuple[
        int, ...
    ] = ()  # which axis of a position turns each pair of a head; () where positions have one axis
    qk_norm: bool = False  # an RMS norm on each query and key head, before the rotation
    entered: int = 0  # first layers behind which visual tokens bring more
    sliding_window: int | None = None  # a query sees the last `sliding_window` positions, itself included; None: all
    widths: tuple[
        Width, ...
    ] = ()  # per layer, where layers differ; heads, kv_heads and mlp are then those of the source

    def at(self, layer: int) -> DecoderSpec:
        """The decoder as layer `layer` sees it: its own head groups and MLP width."""
        if not self.widths:
            return self
        groups = self.widths[layer].groups
        share = self.heads // self.kv_heads
        return replace(self, heads=groups * share, kv_heads=groups, mlp=self.widths[layer].mlp, widths=())

    @property
    def must_stay(self) -> frozenset[int]:
        """Layers that pruning cannot take out: what enters behind one belongs there."""
        return frozenset(range(self.entered))


@dataclass(frozen=True)
class DeepstackSpec:
    """Features of tower block `block` that go through a connector of their own and are added behind a decoder layer (arXiv 2406.04334)."""

    block: int
    connector: ConnectorSpec


@dataclass(frozen=True)
class ModelSpec:
    """One vision-language model. `feature_layer` is the 0-based tower block whose output feeds the connector."""

    family: str
    vision: TowerSpec
    connector: ConnectorSpec
    language: DecoderSpec
    image_token_id: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    picture: PictureSpec
    feature_layer: int
    source: str
    learned: str | None = None  # tensor of the learned row of packed pictures
    deepstack: tuple[
        DeepstackSpec, ...
    ] = ()  # what visual tokens bring for behind the first decoder layers, in their order


@dataclass(frozen=True)
class ClassifierSpec:
    """A plain image classifier: all blocks of a tower, a layer norm on the class token's row, one linear layer."""

    vision: TowerSpec
    classes: int
    picture: PictureSpec  # one tile per picture
    labels: tuple[str, ...] | None  # names of the classes, where the checkpoint has them
    source: str
