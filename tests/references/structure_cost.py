"""References of parameters, multiply-accumulates and bytes of a pruned part, from docs/structure.md only: by counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """What is left of one block; a removed block is not listed."""

    groups: int
    mlp: int


@dataclass(frozen=True)
class Matrix:
    rows: int
    columns: int
    bias: bool = False

    def weights(self) -> int:
        return sum(self.columns for _ in range(self.rows))

    def parameters(self) -> int:
        return sum(self.columns + self.bias for _ in range(self.rows))


@dataclass(frozen=True)
class Tower:
    """`rows` = R positions: `prefix` tokens and the patches. Every block has H = groups heads of `head_dim`.

    table   rows of the table of positions; None: one per position
    frames  pictures that the patch kernel takes; it is added up over them when it is stored
    keys    per block: how many rows a row attends to; None: to all
    turned  rows whose angles are stored, over all parts of a tile that there are graphs for; `tabled` is the same of a table
    """

    blocks: Sequence[Block]
    width: int
    head_dim: int
    patch: int
    rows: int
    prefix: int = 1
    gated: bool = False
    qkv_bias: bool = True
    patch_bias: bool = True
    pre_norm: bool = False
    layer_scale: bool = False
    rms: bool = False
    table: int | None = None
    frames: int = 1
    keys: Sequence[int] | None = None
    turned: int = 0
    tabled: int | None = None

    def matrices(self, block: Block) -> list[Matrix]:
        lanes = block.groups * self.head_dim
        found = [Matrix(lanes, self.width, self.qkv_bias) for _ in ("q", "k", "v")]
        found.append(Matrix(self.width, lanes, bias=True))
        found += [Matrix(block.mlp, self.width, bias=True) for _ in (("gate", "up") if self.gated else ("fc1",))]
        found.append(Matrix(self.width, block.mlp, bias=True))
        return found

    def params(self) -> int:
        return self._numbers(self.frames, self.rows if self.table is None else self.table)

    def _numbers(self, frames: int, table: int) -> int:
        total = Matrix(self.width, 3 * frames * self.patch * self.patch, self.patch_bias).parameters()
        for _ in range(self.prefix + table):
            total += self.width
        total += 2 * self.width if self.pre_norm else 0
        for block in self.blocks:
            total += sum(matrix.parameters() for matrix in self.matrices(block))
            for _ in ("norm1", "norm2"):
                total += self.width if self.rms else self.width + self.width  # weight and bias
                total += self.width if self.layer_scale else 0
        return total

    def macs(self) -> int:
        patches = self.rows - self.prefix
        total = sum(Matrix(self.width, 3 * self.patch * self.patch).weights() for _ in range(patches))
        for number, block in enumerate(self.blocks):
            for _query in range(self.rows):
                total += sum(matrix.weights() for matrix in self.matrices(block))
                for _key in range(self.rows if self.keys is None else self.keys[number]):
                    for _head in range(block.groups):
                        total += self.head_dim + self.head_dim  # query . key, and attention x value
        return total

    def memory(self, bytes_per_parameter: int) -> int:
        table = self.tabled if self.tabled is not None else self.rows if self.table is None else self.table
        angles = self.turned * (self.head_dim // 2 + self.head_dim // 2)  # cosines and sines
        return (self._numbers(1, table) + angles) * bytes_per_parameter


@dataclass(frozen=True)
class Language:
    """`queries` = r query heads per key/value head; blocks are gated."""

    blocks: Sequence[Block]
    width: int
    head_dim: int
    queries: int
    vocab: int
    tied: bool
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False

    def matrices(self, block: Block) -> list[Matrix]:
        keys = block.groups * self.head_dim
        lanes = keys * self.queries
        return [
            Matrix(lanes, self.width, self.qkv_bias),
            Matrix(keys, self.width, self.qkv_bias),
            Matrix(keys, self.width, self.qkv_bias),
            Matrix(self.width, lanes, self.output_bias),
            Matrix(block.mlp, self.width, self.mlp_bias),
            Matrix(block.mlp, self.width, self.mlp_bias),
            Matrix(self.width, block.mlp, self.mlp_bias),
        ]

    def params(self) -> int:
        table = Matrix(self.vocab, self.width).parameters()
        total = table if self.tied else table + table
        for block in self.blocks:
            total += sum(matrix.parameters() for matrix in self.matrices(block))
            total += self.width + self.width  # two RMS norms, a weight each
            total += self.head_dim + self.head_dim if self.head_norms else 0
        return total + self.width  # the last norm

    def macs(self, prompt: int) -> int:
        """The head is run for one position; lookups and norms count nothing."""
        total = Matrix(self.vocab, self.width).weights()
        for block in self.blocks:
            for position in range(prompt):
                total += sum(matrix.weights() for matrix in self.matrices(block))
                for _key in range(position + 1):
                    for _head in range(block.groups * self.queries):
                        total += self.head_dim + self.head_dim
        return total

    def memory(self, bytes_per_parameter: int, capacity: int) -> int:
        cache = 0
        for block in self.blocks:
            for _ in ("keys", "values"):
                cache += capacity * block.groups * self.head_dim * 4
        return self.params() * bytes_per_parameter + cache


def latency(blocks: Sequence[Block], a: float, b: float, c: float, e: float) -> float:
    """Predicted seconds; the four numbers come from the fit."""
    return a + sum(b + c * block.groups + e * block.mlp for block in blocks)
