"""The weights of a checkpoint under edgeprune's names: listed at once, read one tensor at a time.

Everything that can be known from headers (presence, shape, kind) is checked before the first byte of data is read; NaN
and infinity are checked while streaming, because only the data can show them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.models.config.section import Section
from edgeprune.models.weights.names import canonical_name
from edgeprune.models.weights.shapes import TensorShape
from edgeprune.models.weights.stored import CHUNK_ELEMENTS, DOWNLOAD_AGAIN, StoredTensor
from edgeprune_runtime.errors import CheckpointError

Parts = tuple[StoredTensor, ...]
SAME_MODEL = "use the weights and config.json of one model"


@dataclass(frozen=True)
class Weights:
    """Tensors of one model by name. `parts` are stacked along the first axis (a gated MLP may be stored in two)."""

    shapes: Mapping[str, TensorShape]
    parts: Mapping[str, Parts]

    def names(self) -> tuple[str, ...]:
        """All names, in the order of a forward pass."""
        return tuple(self.shapes)

    def shape(self, name: str) -> TensorShape:
        return self.shapes[name]

    def dtype(self, name: str) -> str:
        """How it is stored: float16, bfloat16, float32 or float64."""
        return self.parts[name][0].dtype

    def nbytes(self, name: str) -> int:
        """Bytes of the tensor as stored."""
        return sum(part.nbytes for part in self.parts[name])

    def read(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32. Raises CheckpointError for NaN, infinity or a file cut short."""
        return self.read_rows(name, 0, self.shapes[name][0])

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start..stop along the first axis as float32: for tables too large to hold twice."""
        shape = self.shapes[name]
        if not 0 <= start <= stop <= shape[0]:
            raise ValueError(f"rows {start}..{stop} of {name} with {shape[0]} rows")
        row = math.prod(shape[1:])
        flat = np.empty((stop - start) * row, np.float32)
        position = 0
        for chunk in self._chunks(name, start * row, stop * row):
            target = flat[position : position + chunk.size]
            # A float64 beyond float32 becomes infinite and is then refused like one; no warning is wanted beside that.
            with np.errstate(over="ignore", invalid="ignore"):
                target[:] = chunk
                # One sum finds any NaN or infinity without a second array of the same size.
                total = target.sum(dtype=np.float64)
            if not np.isfinite(total):
                raise CheckpointError(f"{name} ({self.parts[name][0].name}) holds NaN or infinity; {DOWNLOAD_AGAIN}")
            position += chunk.size
        return flat.reshape((stop - start, *shape[1:]))

    def blocks(self, name: str) -> Iterator[NDArray[np.float32]]:
        """The tensor as float32, some rows (at most 16 MiB, but at least one) at a time."""
        rows = self.shapes[name][0]
        step = max(1, CHUNK_ELEMENTS // math.prod(self.shapes[name][1:]))
        for start in range(0, rows, step):
            yield self.read_rows(name, start, min(start + step, rows))

    def _chunks(self, name: str, start: int, stop: int) -> Iterator[NDArray[Any]]:
        offset = 0
        for part in self.parts[name]:
            first, last = max(start - offset, 0), min(stop - offset, part.size)
            if first < last:
                yield from part.chunks(first, last)
            offset += part.size


def require_layers(section: Section, layers: int, tensors: Mapping[str, StoredTensor]) -> None:
    """Refuse a layer count that the tensors at hand cannot fill, before a description of so many layers is made."""
    if layers > len(tensors):
        raise section.refuse("num_hidden_layers", f"at most {len(tensors)}, as many as the weights hold tensors")


def named_parts(tensors: Mapping[str, StoredTensor], title: str) -> dict[str, Parts]:
    """Tensors of the files of a model called `title` under our names; what is never needed is left out, what is not known is refused."""
    found: dict[str, StoredTensor] = {}
    for source, tensor in tensors.items():
        name = canonical_name(source)
        if name is None:
            raise CheckpointError(
                f"the weights hold {source}, which is no part of {title} as edgeprune knows it; "
                "expected a plain checkpoint; merge adapters and remove quantisation first"
            )
        if not name:
            continue
        if name in found:
            raise CheckpointError(
                f"the weights hold both {found[name].name} and {source} for {name}; expected one of them"
            )
        found[name] = tensor
    return _with_gates_joined(_with_stacks_parted(found))


def _with_stacks_parted(found: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Queries, keys and values that are stored as one tensor, each under its own name."""
    parted: dict[str, StoredTensor] = {}
    for name, tensor in found.items():
        if ".qkv." in name and tensor.is_float and tensor.shape and tensor.shape[0] % 3 == 0:
            parted |= {
                name.replace(".qkv.", f".{part}."): third for part, third in zip("qkv", tensor.thirds(), strict=True)
            }
        else:
            parted[name] = tensor
    return parted


def _with_gates_joined(found: Mapping[str, StoredTensor]) -> dict[str, Parts]:
    joined: dict[str, Parts] = {}
    for name, tensor in found.items():
        if ".fc_up." in name:
            continue
        if ".fc_gate." in name:
            up = name.replace(".fc_gate.", ".fc_up.")
            joined[name.replace(".fc_gate.", ".fc_in.")] = (tensor, found[up]) if up in found else (tensor,)
        else:
            joined[name] = (tensor,)
    return joined


def checked_weights(
    shapes: Mapping[str, TensorShape], parts: Mapping[str, Parts], *, by: str = "config.json", repair: str = SAME_MODEL
) -> Weights:
    """Weights whose presence, kinds and shapes agree with what the model needs; raises CheckpointError otherwise.

    by      what the needed shapes were read from, for messages
    repair  what to do where tensors and that disagree
    """
    for name, shape in shapes.items():
        if name not in parts:
            raise CheckpointError(f"{name} is missing from the weights; expected shape {list(shape)}; {DOWNLOAD_AGAIN}")
        for part in parts[name]:
            if not part.is_float:
                raise CheckpointError(
                    f"{part.name} is stored as {part.kind}; expected float16, bfloat16 or float32; "
                    "quantised weights are not supported: start from the original checkpoint and use --weights int8"
                )
        if _joined_shape(parts[name], len(shape)) != shape:
            stored = " + ".join(str(list(part.shape)) for part in parts[name])
            raise CheckpointError(f"{parts[name][0].name} has shape {stored}; expected {list(shape)} by {by}; {repair}")
    if stray := next((name for name in parts if name not in shapes), None):
        raise CheckpointError(f"the weights hold {parts[stray][0].name}, for which {by} leaves no place; {repair}")
    return Weights(dict(shapes), {name: parts[name] for name in shapes})


def _joined_shape(parts: Parts, rank: int) -> TensorShape:
    """Shape of the parts stacked along the first axis; leading ones of tokens and position tables are dropped."""
    shapes = [part.shape for part in parts]
    while all(len(shape) > rank and shape[0] == 1 for shape in shapes):
        shapes = [shape[1:] for shape in shapes]
    if len({shape[1:] for shape in shapes}) > 1 or any(not shape for shape in shapes):
        return ()
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])
