"""What a checkpoint says about its model: frozen data, no tensors.

The vocabulary is edgeprune's own, so that one description serves every family: a tower of pre-norm transformer blocks
with or without a class token, a two-layer projector, a decoder with rotary positions. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgeprune_runtime.spec import Preprocess

Family = Literal["llava_next", "llava"]
TowerKind = Literal["clip", "vit", "dinov2", "deit", "siglip"]
DecoderKind = Literal["llama", "mistral", "qwen2"]
RopeKind = Literal["default", "linear", "llama3", "yarn"]


@dataclass(frozen=True)
class Width:
    """What one block has: head groups (in a tower every head is its own) and inner channels of its MLP."""

    groups: int
    mlp: int


@dataclass(frozen=True)
class TowerSpec:
    """A vision tower. `layers` counts all blocks of the source; only those up to the feature layer are ever read."""

    kind: TowerKind
    layers: int
    hidden: int
    heads: int
    head_dim: int
    mlp: int  # inner width of the MLP; with swiglu, the width of each of its two halves
    image_px: int
    patch_px: int
    activation: str  # "quick_gelu", "gelu", "gelu_tanh", "relu" or "silu"; with swiglu always "silu"
    eps: float
    pre_norm: bool  # a layer norm between the embeddings and block 0 (CLIP)
    patch_bias: bool
    qkv_bias: bool
    layer_scale: bool
    swiglu: bool
    prefix_tokens: int  # class token, and DeiT's distillation token; none in SigLIP
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
    def positions(self) -> int:
        """Rows of the position table: prefix tokens, then patches in raster order."""
        return self.prefix_tokens + self.patches**2

    @property
    def class_tokens(self) -> int:
        """1, or 0 for a tower without a class token. It comes first, and it is what LLaVA drops."""
        return min(self.prefix_tokens, 1)

    @property
    def tokens(self) -> int:
        """N, visual tokens per tile: everything but the class token."""
        return self.positions - self.class_tokens


@dataclass(frozen=True)
class ProjectorSpec:
    """Linear, activation, linear: from tower width `inputs` to decoder width `outputs`."""

    inputs: int
    outputs: int
    activation: str
    bias: bool


@dataclass(frozen=True)
class RopeSpec:
    """Rotary positions: base `theta` and, for scaled kinds, the numbers of the scaling (all resolved)."""

    theta: float
    kind: RopeKind = "default"
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderSpec:
    """A pre-norm causal decoder with RMS norm, rotary positions, grouped-query attention and a gated MLP."""

    kind: DecoderKind
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    eps: float
    activation: str
    attention_bias: bool  # on q, k, v
    output_bias: bool  # on o
    mlp_bias: bool
    tied: bool  # the head is the embedding table
    rope: RopeSpec
    sliding_window: int | None  # a query sees the last `sliding_window` positions, itself included; None: all
    max_positions: int
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


@dataclass(frozen=True)
class ModelSpec:
    """One vision-language model. `feature_layer` is the 0-based tower block whose output feeds the projector."""

    family: Family
    vision: TowerSpec
    projector: ProjectorSpec
    language: DecoderSpec
    image_token_id: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    preprocess: Preprocess
    feature_layer: int
    prefix_tokens: int
    source: str

    @property
    def kept_prefix_tokens(self) -> int:
        """Prefix tokens that reach the projector: LLaVA drops the class token only, so DeiT's distillation token stays (1)."""
        return self.prefix_tokens - self.vision.class_tokens


@dataclass(frozen=True)
class ClassifierSpec:
    """A plain image classifier: all blocks of a tower, a layer norm on the class token's row, one linear layer."""

    vision: TowerSpec
    classes: int
    preprocess: Preprocess  # one tile per picture (anyres False): resize_exact or resize_shortest, then a centre crop
    labels: tuple[str, ...] | None  # names of the classes, where the checkpoint has them
    source: str

    @property
    def mean(self) -> tuple[float, float, float]:
        """Subtracted from pixels in 0..1; red, green, blue."""
        return self.preprocess.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """What pixels are divided by after that."""
        return self.preprocess.std
