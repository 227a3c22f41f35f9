"""Start from the first reference model: its tower without the class token, its decoder, and a connector between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import normalise
from labels import SIDE
from packing import TOKEN_IDS
from prompt import BEGIN, END, IDS
from smolvlm import CONSTANTS, MERGE, merge_order
from tiles import make_views
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration, SmolVLMForConditionalGeneration
from whiten import EMBEDDING_RMS

CHECKPOINT = Path(__file__).resolve().parents[1] / "reference_vlm" / "checkpoint"
SAME_ROLE = {BEGIN: "<bos>", END: "<eos>", "User": "<|user|>", ":": "<|assistant|>"}


def first_model(device: str, dtype: torch.dtype) -> LlavaNextForConditionalGeneration:
    """The finished first model, as a teacher."""
    model = LlavaNextForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=dtype, attn_implementation="plain")
    return model.to(device).eval()


@torch.no_grad()
def teacher_features(teacher: LlavaNextForConditionalGeneration, pixels: np.ndarray, device: str) -> Tensor:
    """Patch features (views, 64, 256) of the layer that the first model projects."""
    dtype = next(teacher.parameters()).dtype
    out = teacher.model.vision_tower(pixel_values=normalise(pixels, device, dtype), output_hidden_states=True)
    return out.hidden_states[-2][:, 1:]


def solve(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """Least squares `x @ result = y`, in double precision; `ridge` is relative to the mean square of x."""
    x, y = x.double(), y.double()
    gram = x.T @ x
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram, x.T @ y).float()


@torch.no_grad()
def start_tower(model: SmolVLMForConditionalGeneration, seed: int, device: str, scenes: int = 120) -> None:
    """Copy the blocks, as many as the first model's features went through, and fit the patch embedding.

    It is the linear one that comes closest to the first model's embedding and norm: CLIP normalises before the first
    block, SigLIP does not.
    """
    teacher, tower = first_model(device, torch.float32).model.vision_tower, model.model.vision_model
    for number, block in enumerate(tower.encoder.layers):
        block.load_state_dict(teacher.encoder.layers[number].state_dict())
    pixels, _ = make_views(seed, scenes)
    goal = teacher.pre_layrnorm(teacher.embeddings(normalise(pixels, device, torch.float32)))[:, 1:]
    mine = normalise(pixels, device, torch.float32, CONSTANTS)
    columns = F.unfold(mine, tower.patch_size, stride=tower.patch_size).transpose(1, 2)
    places = torch.eye(SIDE**2, device=device).expand(len(columns), -1, -1)
    x, y = torch.cat([columns, places], -1).flatten(0, 1), goal.flatten(0, 1)
    fitted = solve(x, y, 1e-5)
    inputs = columns.shape[-1]
    tower.embeddings.patch_embedding.weight.copy_(
        fitted[:inputs].T.reshape(tower.embeddings.patch_embedding.weight.shape)
    )
    tower.embeddings.patch_embedding.bias.zero_()
    tower.embeddings.position_embedding.weight.copy_(fitted[inputs:])
    error = float((x @ fitted - y).square().mean() / (y - y.mean(0)).square().mean())
    print(f"[start] patch embedding: {error:.3f} of the variance is not linear", flush=True)


@torch.no_grad()
def start_decoder(model: SmolVLMForConditionalGeneration, seed: int, device: str, scenes: int = 240) -> None:
    """Copy the decoder and its word embeddings; fit the connector to the sum of the first model's four tokens."""
    teacher = first_model(device, torch.float32)
    language, mine = teacher.model.language_model, model.model.text_model
    table = language.embed_tokens.weight
    copied = {k: v for k, v in language.state_dict().items() if "embed_tokens" not in k}
    missing = mine.load_state_dict(copied, strict=False)
    assert missing.missing_keys == ["embed_tokens.weight"] and not missing.unexpected_keys
    mine.embed_tokens.weight.normal_(std=EMBEDDING_RMS)
    for word, row in IDS.items():
        known = TOKEN_IDS.get(SAME_ROLE.get(word, word))
        if known is not None:
            mine.embed_tokens.weight[row].copy_(table[known])
    features, goals = [], []
    for start in range(0, scenes, 20):
        pixels, _ = make_views(seed + start, 20)
        dtype = next(model.parameters()).dtype
        tower = model.model.vision_model(pixel_values=normalise(pixels, device, dtype, CONSTANTS)).last_hidden_state
        features.append(merge_order(tower.float()).flatten(2).flatten(0, 1))
        projected = teacher.model.multi_modal_projector(teacher_features(teacher, pixels, device))
        goals.append(merge_order(projected).sum(2).flatten(0, 1))
    x, y = torch.cat(features), torch.cat(goals)
    y = (y - y.mean(0)) * (EMBEDDING_RMS / (y - y.mean(0)).square().mean().sqrt())
    fitted = solve(x, y, 1e-3)
    assert fitted.shape[0] == MERGE**2 * tower.shape[-1]
    model.model.connector.modality_projection.proj.weight.copy_(fitted.T)
    error = float((x @ fitted - y).square().mean() / y.square().mean())
    print(f"[start] connector: {error:.3f} of the variance is not explained", flush=True)
