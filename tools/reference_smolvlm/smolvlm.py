"""The second reference model: configuration, helper heads, and how it is saved.

It is a standard `SmolVLMForConditionalGeneration`; nothing here is needed to run the saved checkpoint.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from drawing import TILE
from labels import PATCH_TARGETS, SIDE
from prompt import BEGIN, CHAT_TEMPLATE, END, IDS, IMAGE, MERGED, WORDS, build_tokenizer
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

CONSTANTS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MERGE = 2
TARGETS = sum(size for _, size in PATCH_TARGETS)


def build_config(attention: str = "sdpa") -> SmolVLMConfig:
    """Tower 256 x 5 layers (64 patches per 112 px tile, 16 visual tokens), decoder 256 x 4 layers."""
    vision = SmolVLMVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=5, num_attention_heads=4, image_size=TILE,
        patch_size=TILE // SIDE, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=-(-len(WORDS) // 8) * 8, hidden_size=256, intermediate_size=704, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, head_dim=64, max_position_embeddings=1024,
        tie_word_embeddings=True, pad_token_id=IDS["<pad>"], bos_token_id=IDS[BEGIN], eos_token_id=IDS[END],
        rms_norm_eps=1e-5,
    )  # fmt: skip
    config = SmolVLMConfig(
        vision_config=vision, text_config=text, image_token_id=IDS[IMAGE], scale_factor=MERGE,
        tie_word_embeddings=True, pad_token_id=IDS["<pad>"],
    )  # fmt: skip
    for part in (config, config.vision_config, config.text_config):
        part._attn_implementation = attention
    return config


def tile_features(model: SmolVLMForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Visual tokens (tiles, 16, width) of normalised tiles, all of them real."""
    return model.model.connector(model.model.vision_model(pixel_values=pixels).last_hidden_state)


def merge_order(patches: Tensor) -> Tensor:
    """(tiles, 64, ...) in raster order to (tiles, 16, 4, ...): the patches that each visual token is made of."""
    half = SIDE // MERGE
    split = patches.reshape(len(patches), half, MERGE, half, MERGE, *patches.shape[2:])
    return split.transpose(2, 3).reshape(len(patches), MERGED, MERGE**2, *patches.shape[2:])


class Heads(nn.Module):
    """Helper heads: each visual token names what its four patches show, and where the overview's patches lie."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.patch = nn.Linear(width, MERGE**2 * TARGETS)
        self.place = nn.Linear(width, MERGE**2 * 2)


def save_checkpoint(model: SmolVLMForConditionalGeneration, folder: Path) -> None:
    """Write the Hugging Face folder in fp16, to a temporary name first so that readers never see half of it."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    out = SmolVLMForConditionalGeneration(build_config()).to(torch.float16)
    out.load_state_dict({k: v.to(torch.float16) for k, v in model.state_dict().items()})
    out.generation_config = GenerationConfig(
        bos_token_id=IDS[BEGIN], eos_token_id=IDS[END], pad_token_id=IDS["<pad>"], do_sample=False, max_new_tokens=8
    )
    out.save_pretrained(temporary)
    build_tokenizer().save_pretrained(temporary)
    SmolVLMImageProcessorPil(
        size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}, image_mean=list(CONSTANTS[0]),
        image_std=list(CONSTANTS[1]),
    ).save_pretrained(temporary)  # fmt: skip
    write_processor_config(temporary)
    for file in temporary.iterdir():
        file.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def write_processor_config(folder: Path) -> None:
    """`processor_config.json` and the template by hand: `SmolVLMProcessor` itself cannot be made without torchvision."""
    images = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    content = {"image_processor": images, "image_seq_len": MERGED, "processor_class": "SmolVLMProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
