"""What is known of a graph's inputs: lengths that the model states, lengths and values that the caller fixes, and symbols they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from edgeprune.errors import ExportError, PlanError

KnownShape = Sequence[int | None]
"""Lengths of an input; None for a batch that stays symbolic."""

_NAMELESS = ("none", "unk", "unknown")


def fixed_shapes(
    inputs: Sequence[onnx.ValueInfoProto], given: KnownShape | Mapping[str, KnownShape] | None
) -> dict[str, tuple[int | None, ...]]:
    """The shape of every input; None for a symbolic batch. A length given for a symbol holds wherever the symbol stands.

    Raises PlanError where what is given contradicts the model or itself, ExportError where a length stays unknown.
    """
    asked = _by_name(given, [value.name for value in inputs])
    symbols: dict[str, tuple[int | None, str]] = {}
    for value in inputs:
        if value.name in asked:
            _agree(value, asked[value.name])
            _bind(value, asked[value.name], symbols)
    shapes = {v.name: asked[v.name] if v.name in asked else _declared(v, symbols) for v in inputs}
    if any(shape[:1] == (None,) for shape in shapes.values()):
        _one_batch([value for value in inputs if shapes[value.name][:1] == (None,)])
    return shapes


def fixed_values(inputs: Sequence[onnx.ValueInfoProto], given: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Inputs of one element that the caller fixes, as the constants that they become. Raises PlanError where an input is another."""
    by_name = {value.name: value.type.tensor_type for value in inputs}
    values = {}
    for name, number in given.items():
        if name not in by_name:
            raise PlanError(
                f"the graph has no input {name!r} to give the value {number:g}; its inputs: {', '.join(by_name)}"
            )
        lengths = [dim.dim_value for dim in by_name[name].shape.dim]
        if not by_name[name].HasField("shape") or set(lengths) - {1}:
            raise PlanError(f"input {name!r} has more than one element; only an input of one element takes a value")
        kind = helper.tensor_dtype_to_np_dtype(by_name[name].elem_type)
        values[name] = np.full(lengths, number).astype(kind)
        if values[name].size and values[name].astype(np.float64).flat[0] != number:
            raise PlanError(f"input {name!r} is of type {kind}, which cannot hold {number:g}; give another value")
    return values


def _by_name(
    given: KnownShape | Mapping[str, KnownShape] | None, names: Sequence[str]
) -> dict[str, tuple[int | None, ...]]:
    """Input shapes that the caller fixes, by input."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if len(names) != 1:
            raise PlanError(
                f"one input shape was given for {len(names)} inputs ({', '.join(names)}); give one for each by name: "
                + " ".join(f"--input-shape {name}=..." for name in names)
            )
        given = {names[0]: given}
    if not set(given) <= set(names) or any((size or 0) < 1 for shape in given.values() for size in shape[1:]):
        raise PlanError(
            f"the input shapes {dict(given)} do not fit; give positive integers, or None for a batch, for inputs out of {', '.join(names)}"
        )
    return {name: tuple(shape) for name, shape in given.items()}


def _agree(value: onnx.ValueInfoProto, shape: KnownShape) -> None:
    """Raises PlanError where a shape that is asked for contradicts what the model says itself."""
    own = value.type.tensor_type.shape.dim
    if not value.type.tensor_type.HasField("shape"):
        return
    if len(own) != len(shape) or any(
        d.HasField("dim_value") and n is not None and d.dim_value != n for d, n in zip(own, shape, strict=True)
    ):
        has = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in own)
        raise PlanError(
            f"input {value.name!r} has the shape [{has}], asked for were {list(shape)}; give sizes that agree"
        )


def _bind(value: onnx.ValueInfoProto, shape: KnownShape, symbols: dict[str, tuple[int | None, str]]) -> None:
    """Note what a given shape says of the symbols of its input; symbols: name -> its length and the input that says so."""
    for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=False):
        if not is_symbol(dim.dim_param):
            continue
        known, source = symbols.setdefault(dim.dim_param, (length, value.name))
        if known != length:
            one, other = ("symbolic" if n is None else str(n) for n in (known, length))
            where = f"{one} in input {source!r} and {other} in input {value.name!r}"
            if source == value.name:
                where = f"{one} and {other} in input {source!r}"
            raise PlanError(f"the symbol {dim.dim_param!r} is {where}; give one length for it")


def is_symbol(name: str) -> bool:
    """Whether a stated length has a name; exporters write "?", "None" or "-1" for lengths that have nothing in common."""
    return name.lower() not in _NAMELESS and any(letter.isalpha() for letter in name)


def _declared(value: onnx.ValueInfoProto, symbols: Mapping[str, tuple[int | None, str]]) -> tuple[int | None, ...]:
    """The shape that the model states of an input, with the lengths of symbols that are known from others."""
    stated = value.type.tensor_type.shape.dim
    dims = [d.dim_value if d.HasField("dim_value") else symbols.get(d.dim_param, (None,))[0] for d in stated]
    if not value.type.tensor_type.HasField("shape") or None in dims[1:]:
        what = ", ".join(d.dim_param or str(d.dim_value or "?") for d in stated) or "unknown"
        lengths = [known or (224 if i > 1 else 1) for i, known in enumerate(dims)]
        example = ",".join(map(str, lengths)) or "1,3,224,224"
        raise ExportError(
            f"input {value.name!r} has the shape [{what}]; only the first dimension may be symbolic: give integers as "
            f"input_shape, or --input-shape {value.name}={example}"
        )
    return tuple(dims)


def _one_batch(inputs: Iterable[onnx.ValueInfoProto]) -> None:
    """Refuse inputs whose first dimensions are symbols of different names: they cannot all be the batch."""
    given = {v.type.tensor_type.shape.dim[0].dim_param for v in inputs if v.type.tensor_type.shape.dim}
    names = {name for name in given if is_symbol(name)}
    if len(names) > 1:
        raise ExportError(f"the inputs have different symbolic dimensions {sorted(names)}; fix them by input_shape")
