"""Rotary position frequencies for the scalings that Llama, Mistral and Qwen2 checkpoints use.

default; linear (positions divided by a factor); llama3 (low frequencies divided, high ones kept, a ramp between); yarn
(arXiv 2309.00071, with its attention temperature). Scalings whose frequencies depend on the length of the prompt
(dynamic, longrope) are refused: a static graph cannot follow them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.models.config.section import Section
from edgeprune.models.spec import RopeSpec
from edgeprune_runtime.errors import CheckpointError

SUPPORTED = "default, linear, llama3 or yarn"
DEFAULT_THETA = 10_000.0


def rope_from_config(
    text: Section, max_positions: int, *, theta: float = DEFAULT_THETA, sections: bool = False
) -> RopeSpec:
    """Read either spelling: `rope_parameters`, or the older `rope_scaling` beside `rope_theta`.

    theta     the base where the file is silent
    sections  positions have several axes, whose shares of a head `rope_sections` reads
    """
    where = _rope(text)
    given = where.values
    if any(isinstance(value, dict) for value in given.values()):
        raise CheckpointError(
            f"{where.where} differs between layer types; expected one rotary embedding for all layers"
        )
    kind = given.get("rope_type", given.get("type", "default"))
    if sections and kind == "mrope":
        kind = "default"
    if not sections and ("mrope_section" in given or kind == "mrope"):
        raise CheckpointError(
            f"{where.where} is multimodal (mrope_section); expected {SUPPORTED} with one position per token"
        )
    for holder in (text, where):
        if holder.has("partial_rotary_factor") and holder.number("partial_rotary_factor") != 1.0:
            raise holder.refuse("partial_rotary_factor", "1.0 (rotation of the whole head)")
    theta = where.number("rope_theta") if where.has("rope_theta") else theta
    if kind == "default":
        return RopeSpec(theta)
    if kind == "linear":
        return RopeSpec(theta, "linear", {"factor": where.number("factor")})
    # As in transformers: a length outside the rope object wins over one inside; the model's maximum is the last resort.
    outer = text if text.has("original_max_position_embeddings") else where
    original = float(outer.integer("original_max_position_embeddings", max_positions))
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor")
        return RopeSpec(theta, "llama3", {**{name: where.number(name) for name in names}, "original": original})
    if kind == "yarn":
        return RopeSpec(theta, "yarn", _yarn_parameters(where, original))
    raise CheckpointError(
        f"{where.where} is of type {kind!r}; expected {SUPPORTED}; "
        "frequencies that change with the length of the prompt have no static graph"
    )


def rope_sections(text: Section, default: tuple[int, int, int], pairs: int) -> tuple[int, int, int]:
    """How many pairs of a head each axis of a position turns. Raises CheckpointError where they are not `pairs` in all."""
    where = _rope(text)
    value = where.values.get("mrope_section", default)
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 3
        or not all(type(part) is int and part >= 0 for part in value)
        or sum(value) != pairs
    ):
        raise where.refuse("mrope_section", f"three numbers (time, height, width) that add up to {pairs}, half a head")
    time, height, width = value
    return time, height, width


def _rope(text: Section) -> Section:
    given: dict[str, Any] = {}
    for key in ("rope_parameters", "rope_scaling"):  # the older spelling wins in transformers, too
        if text.has(key):
            given = dict(text.section(key).values)
    return Section(f"{text.where}: rope", {"rope_theta": text.values.get("rope_theta"), **given})


def _yarn_parameters(where: Section, original: float) -> dict[str, float]:
    factor = where.number("factor")
    if where.has("attention_factor"):
        temperature = where.number("attention_factor")
    elif where.values.get("mscale") and where.values.get("mscale_all_dim"):
        temperature = _mscale(factor, where.number("mscale")) / _mscale(factor, where.number("mscale_all_dim"))
    else:
        temperature = _mscale(factor, 1.0)
    return {
        "factor": factor,
        "original": original,
        "attention_factor": temperature,
        "beta_fast": where.number("beta_fast") if where.values.get("beta_fast") else 32.0,
        "beta_slow": where.number("beta_slow") if where.values.get("beta_slow") else 1.0,
        "truncate": float(where.flag("truncate", True)),
    }


def _mscale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def inverse_frequencies(rope: RopeSpec, head_dim: int) -> tuple[NDArray[np.float32], float]:
    """Angle per position of each rotated pair, and the factor on cosine and sine.

    returns  ([head_dim / 2] float32, attention scaling); the angle of pair i at position p is p * frequency[i].
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    base = (np.float32(1.0) / np.power(np.float32(rope.theta), exponent)).astype(np.float32)
    values = rope.parameters
    if rope.kind == "linear":
        return (base / np.float32(values["factor"])).astype(np.float32), 1.0
    if rope.kind == "llama3":
        return _llama3(
            base, values["factor"], values["low_freq_factor"], values["high_freq_factor"], values["original"]
        ), 1.0
    if rope.kind == "yarn":
        return _yarn(base, rope, head_dim), values["attention_factor"]
    return base, 1.0


def _llama3(base: NDArray[np.float32], factor: float, low: float, high: float, original: float) -> NDArray[np.float32]:
    wavelength = 2 * math.pi / base
    smooth = (original / wavelength - low) / (high - low)
    between = (1 - smooth) * base / factor + smooth * base
    scaled = np.where(wavelength > original / low, base / factor, between)
    return np.where(wavelength < original / high, base, scaled).astype(np.float32)


def _yarn(base: NDArray[np.float32], rope: RopeSpec, head_dim: int) -> NDArray[np.float32]:
    values = rope.parameters

    def pair_turning(turns: float) -> float:
        """The (fractional) pair that makes `turns` full turns over the original context."""
        return head_dim * math.log(values["original"] / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = pair_turning(values["beta_fast"]), pair_turning(values["beta_slow"])
    if values["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    span = high - low or 0.001
    pairs = np.arange(head_dim // 2, dtype=np.float32)
    ramp = np.clip((pairs - np.float32(low)) / np.float32(span), np.float32(0), np.float32(1))
    blended: NDArray[np.float32] = base / np.float32(values["factor"]) * ramp + base * (1 - ramp)
    return blended.astype(np.float32)
