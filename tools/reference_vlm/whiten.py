"""Between the tower and the decoder: whiten what the projector gives, and start a decoder on it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from common import normalise
from drawing import COLOUR_NAMES, PLURALS, SHAPES, WORDS
from labels import SIDE, TARGET_INDEX, label
from model import Heads
from packing import TOKEN_IDS
from scenes import make_scene
from stage_tower import patch_features
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration

EMBEDDING_RMS = 0.47


@torch.no_grad()
def whiten(model: LlavaNextForConditionalGeneration, heads: Heads, seed: int, device: str, scenes: int = 200) -> None:
    """Fold centring and (shrunk) ZCA whitening into the projector's last layer, and start the decoder afresh.

    Without it the projected tokens are nearly rank one, all look alike behind the decoder's first norm, and training
    stays at guessing. Token embeddings of words that patches can show start at the mean of those patches.
    """
    features, targets = [], []
    for start in range(0, scenes, 20):
        views = [label(make_scene(seed + start + i)) for i in range(20)]
        pixels = normalise(np.concatenate([v.pixels for v in views]), device)
        features.append(patch_features(model, pixels)[1].flatten(0, 1).float())
        targets.append(torch.from_numpy(np.concatenate([v.patches for v in views])).to(device).flatten(0, 1).long())
    y, target = torch.cat(features), torch.cat(targets)
    mean = y.mean(0)
    values, vectors = torch.linalg.eigh((y - mean).T @ (y - mean) / len(y))
    shrunk = values.clamp_min(0) + 0.02 * values.mean()
    matrix = vectors @ torch.diag(shrunk.rsqrt()) @ vectors.T
    scale = EMBEDDING_RMS / ((y - mean) @ matrix).square().mean().sqrt()
    matrix = matrix * scale
    share = values.flip(0).cumsum(0) / values.sum()
    rms = [float(v.square().mean().sqrt()) for v in (mean, y - mean)]
    shares = [f"{float(share[i]):.2f}" for i in (0, 9, 49)]
    print(f"[whiten] rms mean, centred {rms}; share of the first 1, 10, 50 directions {shares}", flush=True)
    last = model.model.multi_modal_projector.linear_2
    weight, bias = last.weight.float(), last.bias.float()
    last.weight.copy_(matrix @ weight)
    last.bias.copy_(matrix @ (bias - mean))
    inverse = torch.linalg.inv(matrix)
    for head in (heads.patch, heads.place):
        head.bias.copy_(head.bias.float() + head.weight.float() @ mean)
        head.weight.copy_(head.weight.float() @ inverse)
    fresh_decoder(model, (y - mean) @ matrix.T, target)


def fresh_decoder(model: LlavaNextForConditionalGeneration, z: Tensor, target: Tensor) -> None:
    """New decoder weights; embeddings of visible words from the class means of the whitened patch tokens `z`."""
    language = model.model.language_model
    for name, parameter in language.named_parameters():
        if parameter.dim() == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(0.35)
        else:
            parameter.fill_(1.0)
    language.norm.weight.fill_(1 / 6)  # keeps first logits small under tied embeddings
    table = language.embed_tokens.weight
    table.normal_(std=EMBEDDING_RMS)
    model.model.image_newline.normal_(std=EMBEDDING_RMS)
    column = {name: target[:, i] for name, i in TARGET_INDEX.items()}
    thing = column["object"] - 1
    shows: dict[str, Tensor] = {"number": column["text"] == 1, "word": column["text"] == 2}
    for i, name in enumerate(SHAPES):
        shows[name] = shows[PLURALS[i]] = (thing >= 0) & (thing // len(COLOUR_NAMES) == i)
    for i, name in enumerate(COLOUR_NAMES):
        shows[name] = (thing >= 0) & (thing % len(COLOUR_NAMES) == i)
    for i, name in enumerate(WORDS):
        shows[name] = column["word"] == i
    for digit in range(10):
        shows[str(digit)] = torch.stack([column[f"digit_{i}"] == digit for i in (1, 2, 3)]).any(0)
    thumbnail, half = column["thumbnail"] == 1, SIDE // 2
    shows["left"], shows["right"] = thumbnail & (column["column"] < half), thumbnail & (column["column"] >= half)
    shows["top"], shows["bottom"] = thumbnail & (column["row"] < half), thumbnail & (column["row"] >= half)
    for word, where in shows.items():
        if where.sum() > 3:
            row = F.normalize(z[where].mean(0), dim=0) * 0.9 + F.normalize(torch.randn_like(z[0]), dim=0) * 0.44
            table[TOKEN_IDS[word]].copy_(F.normalize(row, dim=0) * EMBEDDING_RMS * len(row) ** 0.5)
