"""The eager reference: transformers' own modules, their weights streamed in one module at a time.

The model is built without memory for its weights; accelerate's hooks read each module's tensors from the checkpoint just before it
runs and drop them afterwards, so the reference of a model larger than memory can be computed. Weights come through edgeprune's own
reader: a wrong name or shape shows here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.tokens.seen import Reads
from edgeprune_export.gate.eager_model import empty_model, streamed
from edgeprune_export.gate.eager_tower import cut_tile, read_tile
from edgeprune_runtime.pictures.packed import Layout


class EagerReference:
    """transformers' model of a checkpoint in float32, with as much of its tower as `reads` asks for."""

    def __init__(self, checkpoint: Checkpoint, reads: Reads) -> None:
        from accelerate import cpu_offload
        from transformers import AutoProcessor

        self._spec, self._reads = checkpoint.spec, reads
        model = empty_model(checkpoint, tower_attention="eager")
        weights = streamed(checkpoint, model, max((*reads.layers, self._spec.feature_layer)))
        cpu_offload(model, execution_device=torch.device("cpu"), state_dict=weights)
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
