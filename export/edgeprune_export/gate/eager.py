"""The eager reference: transformers' own modules, their weights streamed in one module at a time.

The model is built without memory for its weights; accelerate's hooks read each module's tensors from the checkpoint just before it
runs and drop them afterwards, so the reference of a model larger than memory can be computed. Weights come through edgeprune's own
reader: a wrong name or shape shows here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.tokens.readings import Reads
from edgeprune.tokens.sites import Inside, Step
from edgeprune_export.gate.eager_model import empty_model, streamed
from edgeprune_export.gate.eager_tower import read_tile, stepped_tile
from edgeprune_export.gate.inputs import accepted
from edgeprune_runtime.pictures.packed import PackedPicture


class EagerReference:
    """transformers' model of a checkpoint in float32, with as much of its tower as `reads` asks for."""

    def __init__(self, checkpoint: Checkpoint, reads: Reads) -> None:
        from accelerate import cpu_offload

        self._spec, self._reads, self._paths = checkpoint.spec, reads, checkpoint.family.modules
        self._embeds = checkpoint.family.embeds
        model = empty_model(checkpoint, tower_attention="eager")
        weights = streamed(checkpoint, model, max((*reads.layers, self._spec.feature_layer)))
        cpu_offload(model, execution_device=torch.device("cpu"), state_dict=weights)
        self._model = model

    @torch.inference_mode()
    def full_logits(
        self, ids: torch.Tensor, visual: dict[str, torch.Tensor], continuation: Sequence[int]
    ) -> np.ndarray:
        """transformers' own forward pass over prompt [1, S] and continuation: logits [n, V] that predict each continuation token."""
        ids = torch.cat([ids, torch.tensor([list(continuation)])[:, :-1]], dim=1)
        given = {"inputs_embeds": self._model.get_input_embeddings()(ids)} if self._embeds else {"input_ids": ids}
        output = self._model(
            **given,
            attention_mask=torch.ones_like(ids),
            logits_to_keep=len(continuation),
            **accepted(self._model, visual),
        )
        return np.asarray(output.logits[0].float())

    @torch.inference_mode()
    def outputs(
        self,
        pixels: torch.Tensor,
        picture: PackedPicture,
        host: Mapping[str, torch.Tensor],
        stepped: tuple[Inside, tuple[Step, ...]] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Everything that methods read, by name. pixels [T, 3, P, P]; absent tiles are zero.

        host     readings that no tower computes
        stepped  tokens leave inside the tower: what a method that does that sees instead
        """
        tiles, tower = self._spec.picture.tiles_max, self._model.get_submodule(self._paths.tower)
        named: dict[str, torch.Tensor] = {}
        for t, tile in enumerate(pixels):
            if stepped is not None:
                valid = torch.from_numpy(picture.slot[t] >= 0).float()
                read = stepped_tile(tower, self._spec, tile, valid, *stepped)
            else:
                read = read_tile(tower, self._spec, tile, self._reads, self._paths.norm)
                if "projected" in self._reads:
                    read["projected"] = torch.from_numpy(self.project(read["features"]))
            for name, value in read.items():
                named.setdefault(name, torch.zeros(tiles, *value.shape))[t] = value
        named |= {name: host[name] for name in self._reads.host}
        geometry = {"slot": picture.slot, "region": picture.region, "places": picture.places}
        return named | {name: torch.from_numpy(np.array(value)) for name, value in geometry.items()}

    @torch.inference_mode()
    def project(self, rows: torch.Tensor) -> np.ndarray:
        """The connector behind the merge: [K, merge^2 C] -> [K, D]."""
        return np.asarray(self._model.get_submodule(self._paths.connector)(rows[None])[0].float())

    @torch.inference_mode()
    def logits(self, embeds: np.ndarray, positions: np.ndarray, last: int) -> np.ndarray:
        """The language model over given embeddings [S, D] at positions [1, S]: logits [last, V] of the final rows."""
        # Without a mask, transformers takes a jump in the positions for the start of another packed sequence.
        hidden = self._model.get_submodule(self._paths.language)(
            attention_mask=torch.ones(1, len(embeds), dtype=torch.int64),
            inputs_embeds=torch.from_numpy(np.ascontiguousarray(embeds))[None],
            position_ids=torch.from_numpy(np.ascontiguousarray(positions)),
            use_cache=False,
        ).last_hidden_state
        return np.asarray(self._model.get_submodule(self._paths.head)(hidden[0, -last:]).float())
