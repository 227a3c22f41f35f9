"""Integers for weights: rows of 8 bits, of which 7 are used, and blocks of 4 bits.

int8: x86 processors without int8 dot products (AVX2) add two products of an unsigned activation and a signed weight in 16 bits, which saturate
beyond 32767: 2 * 255 * 127 does, 2 * 255 * 63 does not. What that bit costs against an exact
product of 8 bits: docs/measurements/precisions.md.

int4: 32 weights along the input share a scale. The one with the largest absolute value becomes -8, the only integer without a counterpart, so
all sixteen are used (as llama.cpp's Q4_0 does); the layout is that of ONNX Runtime's MatMulNBits with its default zero point of 8.
"""

from __future__ import annotations

import numpy as np

LARGEST_INT8 = 63
BLOCK = 32


def quantize_rows(weight: np.ndarray, largest: int = LARGEST_INT8) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers by row. weight [out, in] float32 -> (int8 [out, in] up to +-largest, scale [out]); weight ~ int8 * scale."""
    scale = np.abs(weight).max(axis=1) / largest
    scale = np.where(scale == 0, 1.0, scale).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def quantize_blocks(weight: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """weight [out, in] float32 -> (uint8 [out, blocks, block / 2], scale [out, blocks] float16), the last block filled up with zeros.

    A byte holds two neighbours, the first in its low half, each as its integer in -8..7 plus 8; weight ~ integer * scale.
    """
    out, inputs = weight.shape
    blocks = -(-inputs // block)
    whole = np.zeros((out, blocks * block), np.float32)
    whole[:, :inputs] = weight
    by_block = whole.reshape(out, blocks, block)
    furthest = np.take_along_axis(by_block, np.abs(by_block).argmax(axis=2, keepdims=True), axis=2)
    scale = (furthest[..., 0] / -8).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)
    integers = np.clip(np.rint(by_block / divisor[..., None]), -8, 7).astype(np.int8) + 8
    unsigned = integers.astype(np.uint8)
    return unsigned[..., 0::2] | unsigned[..., 1::2] << 4, scale


def dequantized_blocks(packed: np.ndarray, scale: np.ndarray, inputs: int) -> np.ndarray:
    """What `quantize_blocks` stands for: [out, inputs] float32."""
    integers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1).astype(np.float32) - 8
    dense: np.ndarray = (integers * scale[..., None].astype(np.float32)).reshape(len(packed), -1)[:, :inputs]
    return dense
