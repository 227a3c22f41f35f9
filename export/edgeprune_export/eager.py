"""The eager reference: transformers' own modules, their weights streamed in one module at a time.

The model is built without memory for its weights; accelerate's hooks read each module's tensors from the checkpoint just before it
runs and drop them afterwards, so the reference of a model larger than memory can be computed. Weights come through edgeprune's own
reader: a wrong name or shape shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgeprune.errors import ExportError
from edgeprune.models.checkpoint import Checkpoint
from edgeprune.models.names import canonical_name, is_later_block
from edgeprune.models.weights import Weights
from edgeprune.tokens.seen import Reads
from edgeprune_export.eager_tower import cut_tile, read_tile
from edgeprune_runtime.layout import Layout

_FULL_PRECISION = torch.float32


class EagerReference:
    """transformers' model of a checkpoint in float32, with as much of its tower as `reads` asks for."""

    def __init__(self, checkpoint: Checkpoint, reads: Reads) -> None:
        from accelerate import cpu_offload, init_empty_weights
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

        self._spec, self._reads = checkpoint.spec, reads
        config = AutoConfig.from_pretrained(checkpoint.path)
        config.dtype = _FULL_PRECISION
        if hasattr(config.vision_config, "vision_use_head"):
            config.vision_config.vision_use_head = False  # SigLIP's pooling, which never reaches the answer
        attention = {"vision_config": "eager", "text_config": "sdpa"}
        with init_empty_weights(include_buffers=False):
            model: Any = AutoModelForImageTextToText.from_config(
                config, attn_implementation=attention, dtype=_FULL_PRECISION
            )
        model.eval()
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
        cpu_offload(
            model,
            execution_device=torch.device("cpu"),
            state_dict=_Streamed(checkpoint.weights, shapes, max((*reads.layers, self._spec.feature_layer))),
        )
        self._model = model
        self._processor = AutoProcessor.from_pretrained(checkpoint.path)

    @torch.inference_mode()
    def inputs(self, picture: Image.Image, prompt: str) -> dict[str, torch.Tensor]:
        """What transformers' processor makes of one picture and a rendered prompt."""
        bos = self._processor.tokenizer.bos_token
        spelled = bos is not None and prompt.startswith(bos)  # the rule of transformers' apply_chat_template
        batch = self._processor(images=picture, text=prompt, return_tensors="pt", add_special_tokens=not spelled)
        return dict(batch)

    @torch.inference_mode()
    def full_logits(self, inputs: Mapping[str, torch.Tensor], continuation: Sequence[int]) -> np.ndarray:
        """transformers' own forward pass over prompt and continuation: logits [n, V] that predict each continuation token."""
        ids = torch.cat([inputs["input_ids"], torch.tensor([list(continuation)])[:, :-1]], dim=1)
        rest = {k: v for k, v in inputs.items() if k in ("pixel_values", "image_sizes")}
        output = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=len(continuation), **rest
        )
        return np.asarray(output.logits[0].float())

    @torch.inference_mode()
    def seen(
        self,
        pixels: torch.Tensor,
        layout: Layout,
        host: Mapping[str, torch.Tensor],
        cuts: Mapping[int, int] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Everything that methods read, by name. pixels [T, 3, P, P]; absent tiles are zero.

        host  readings that no tower computes
        cuts  {block: tokens that stay after it}: what a method inside the tower sees instead
        """
        tiles, tower = self._spec.preprocess.tiles_max, self._model.model.vision_tower
        found: dict[str, torch.Tensor] = {}
        for t, tile in enumerate(pixels):
            if cuts is not None:
                valid = torch.from_numpy(layout.slot[t] >= 0).float()
                read = cut_tile(tower, self._spec, tile, valid, cuts)
            else:
                read = read_tile(tower, self._spec, tile, self._reads)
                if self._reads.projected:
                    read["projected"] = torch.from_numpy(self.project(read["features"]))
            for name, value in read.items():
                found.setdefault(name, torch.zeros(tiles, *value.shape))[t] = value
        found |= {name: host[name] for name in self._reads.host}
        found["mosaic"] = torch.tensor(layout.mosaic, dtype=torch.int64)
        return found | {
            "slot": torch.from_numpy(np.array(layout.slot)),
            "region": torch.from_numpy(np.array(layout.region)),
        }

    @torch.inference_mode()
    def project(self, rows: torch.Tensor) -> np.ndarray:
        """The projector: [K, C] -> [K, D]."""
        return np.asarray(self._model.model.multi_modal_projector(rows[None])[0].float())

    @torch.inference_mode()
    def logits(self, embeds: np.ndarray, positions: np.ndarray, last: int) -> np.ndarray:
        """The language model over given embeddings [S, D] at positions [S]: logits [last, V] of the final rows."""
        # Without a mask, transformers takes a jump in the positions for the start of another packed sequence.
        hidden = self._model.model.language_model(
            attention_mask=torch.ones(1, len(embeds), dtype=torch.int64),
            inputs_embeds=torch.from_numpy(np.ascontiguousarray(embeds))[None],
            position_ids=torch.from_numpy(np.ascontiguousarray(positions))[None],
            use_cache=False,
        ).last_hidden_state
        return np.asarray(self._model.lm_head(hidden[0, -last:]).float())


class _Streamed(Mapping[str, torch.Tensor]):
    """transformers' parameter names over edgeprune's weight reader.

    What comes after the last tower block that anybody reads never reaches the answer and reads as zeros.
    """

    def __init__(self, weights: Weights, shapes: Mapping[str, tuple[int, ...]], deepest: int) -> None:
        self._weights = weights
        self._shapes = shapes
        self._deepest = deepest

    def __getitem__(self, name: str) -> torch.Tensor:
        canonical = canonical_name(name)
        if canonical is None:
            raise ExportError(
                f"transformers asks for the tensor {name!r}, which edgeprune does not know; report this model"
            )
        if canonical == "head.weight" and canonical not in self._weights.shapes:
            canonical = "embed.weight"
        shape = self._shapes[name]
        if not canonical or is_later_block(canonical, self._deepest):
            return torch.zeros(shape)
        for half, number in ((".fc_gate.", 0), (".fc_up.", 1)):  # transformers keeps apart what is stored as one tensor
            if half in canonical:
                joined = canonical.replace(half, ".fc_in.")
                return torch.from_numpy(self._weights.read_rows(joined, number * shape[0], (number + 1) * shape[0]))
        return torch.from_numpy(self._weights.read(canonical)).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)
