"""The reference model: configuration, tokenizer, processor, helper heads, and how it is saved.

It is a standard `LlavaNextForConditionalGeneration`; nothing here is needed to run the saved checkpoint.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from drawing import TILE
from labels import CLASS_LABELS, PATCH_TARGETS
from questions import SPECIALS, vocabulary
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaModel,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PINPOINTS = [[TILE, 2 * TILE], [2 * TILE, TILE], [2 * TILE, 2 * TILE]]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ ' ' + part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<eos>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def plain_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float,
    dropout: float = 0.0, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Matmul, softmax, matmul: on CPU its backward is far faster than that of SDPA at these lengths."""
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    return torch.matmul(scores.softmax(-1), value).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register("plain", plain_attention)


def build_config() -> LlavaNextConfig:
    """Tower 256 x 6 layers (64 patches + class token per 112 px view), decoder 256 x 4 layers."""
    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, image_size=TILE,
        patch_size=14, hidden_act="gelu", projection_dim=256,
    )  # fmt: skip
    token = {name: i for i, name in enumerate(SPECIALS)}
    text = LlamaConfig(
        vocab_size=-(-len(vocabulary()) // 8) * 8, hidden_size=256, intermediate_size=704, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, head_dim=64, max_position_embeddings=1024,
        tie_word_embeddings=True, pad_token_id=token["<pad>"], bos_token_id=token["<bos>"],
        eos_token_id=token["<eos>"],
    )  # fmt: skip
    return LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=token["<image>"], image_grid_pinpoints=PINPOINTS,
        image_seq_length=64, vision_feature_layer=-2, vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )  # fmt: skip


def build_model(attention: str = "plain") -> LlavaNextForConditionalGeneration:
    """A fresh model; the tower starts with the usual ViT scale, not CLIP's tiny one."""
    config = build_config()
    config._attn_implementation = attention
    config.vision_config._attn_implementation = attention
    config.text_config._attn_implementation = attention
    model = LlavaNextForConditionalGeneration(config)
    tower = model.model.vision_tower
    for name, parameter in [*tower.named_parameters(), *model.model.multi_modal_projector.named_parameters()]:
        if parameter.dim() == 2 and "position" not in name:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            if name.endswith(("out_proj.weight", "fc2.weight")):
                parameter.data.mul_(0.3)
        elif parameter.dim() > 1 or "class_embedding" in name:
            nn.init.normal_(parameter, std=0.02)
    nn.init.normal_(tower.embeddings.position_embedding.weight, std=0.3)  # visible beside the patch embeddings
    return model


def keep_rotary_exact(decoder: LlamaModel) -> None:
    """Restore the rotary frequencies in fp32: a cast to bf16 rounds them and so shifts positions."""
    rotary = decoder.rotary_emb
    head_dim, base = decoder.config.head_dim, decoder.config.rope_parameters["rope_theta"]
    exact = 1.0 / (base ** (torch.arange(0, head_dim, 2).float() / head_dim))
    rotary.inv_freq = exact.to(rotary.inv_freq.device)
    rotary.original_inv_freq = rotary.inv_freq.clone()


class Heads(nn.Module):
    """Helper heads of stage 1: the class token names the view, each projected patch names what it shows."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.view = nn.Linear(width, CLASS_LABELS)
        self.place = nn.Linear(width, 2)
        self.patch = nn.Linear(width, sum(size for _, size in PATCH_TARGETS))


def word_tokenizer(
    words: list[str], specials: tuple[str, ...], removed: str = r"\s+", **names: Any
) -> PreTrainedTokenizerFast:
    """Word-level tokenizer; digits, punctuation and runs of newlines (unless `removed`) are single tokens.

    `specials` are registered with `tokenizers`: `additional_special_tokens=` would be ignored.
    """
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(removed), "removed"),
            pre_tokenizers.Split(Regex(r"[A-Za-z]+|\d|[^\sA-Za-z\d]"), "isolated"),
        ]
    )
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(list(specials))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", padding_side="left", model_max_length=1024, **names,
    )  # fmt: skip


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of this model."""
    extra = {"image_token": "<image>"}
    return word_tokenizer(vocabulary(), SPECIALS, bos_token="<bos>", eos_token="<eos>", extra_special_tokens=extra)


def build_processor() -> LlavaNextProcessor:
    """Image processor (the PIL one: no torchvision) and tokenizer together."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS,
        image_mean=list(MEAN), image_std=list(STD),
    )  # fmt: skip
    return LlavaNextProcessor(
        images, build_tokenizer(), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def save_checkpoint(model: LlavaNextForConditionalGeneration, folder: Path) -> None:
    """Write the Hugging Face folder in fp16, to a temporary name first so that readers never see half of it."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    token = {name: i for i, name in enumerate(SPECIALS)}
    out = LlavaNextForConditionalGeneration(build_config()).to(torch.float16)
    out.load_state_dict({k: v.to(torch.float16) for k, v in model.state_dict().items()})
    out.generation_config = GenerationConfig(
        bos_token_id=token["<bos>"], eos_token_id=token["<eos>"], pad_token_id=token["<pad>"], do_sample=False,
        max_new_tokens=8,
    )  # fmt: skip
    out.save_pretrained(temporary)
    processor = build_processor()
    processor.save_pretrained(temporary)
    processor.image_processor.save_pretrained(temporary)  # the older file name, for tools that read it
    for file in temporary.iterdir():
        file.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
