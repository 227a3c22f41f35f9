"""Tensors that lie in a file beside their graph: inside that file, and as long as their type and shape take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgeprune_runtime.backends.graph_file import ExternalTensor


def weight_faults(tensors: Iterable[ExternalTensor], sizes: Mapping[str, int]) -> Iterator[str]:
    """sizes: bytes of each file by the name under which the graph knows it."""
    for tensor in tensors:
        if tensor.size is None or (tensor.length is not None and tensor.length != tensor.size):
            yield f"a tensor of {tensor.length} bytes in {tensor.location}, whose type and shape take {tensor.size}"
        if tensor.end > sizes[tensor.location]:
            yield f"a tensor that reaches beyond {tensor.location} ({tensor.end} of {sizes[tensor.location]} bytes)"
