"""The eager reference: transformers' own modules, their weights streamed in one module at a time.

The model is built without memory for its weights; accelerate's hooks read each module's tensors from the checkpoint just before it
runs and drop them afterwards, so the reference of a model larger than memory can be computed. Weights come through edgeprune's own
reader: a wrong name or shape shows here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.tokens.inside.tower.plan.cuts import TowerCuts
from edgeprune.tokens.readings import ALIVE, Reads
from edgeprune_export.gate.eager_cut_tower import cut_rows, cut_tile
from edgeprune_export.gate.eager_model import empty_model, streamed
from edgeprune_export.gate.eager_tower import read_rows, read_tile
from edgeprune_export.gate.inputs import accepted
from edgeprune_export.gate.language.leaving import ForcedCut, LeavingRows
from edgeprune_export.gate.language.noted import LANGUAGE_ATTENTION, register_language
from edgeprune_export.gate.noted_attention import NAME, register
from edgeprune_runtime.pictures.packed import PackedPicture
from edgeprune_runtime.stages.rows import PromptRows


class EagerReference:
    """transformers' model of a checkpoint in float32, with as much of its tower as `reads` asks for."""

    def __init__(self, checkpoint: Checkpoint, reads: Reads, *, leaving: bool = False, resident: bool = False) -> None:
        """leaving: whether rows may leave inside the language model; resident: weights are read once and stay, for who runs it often."""
        from accelerate import cpu_offload

        self._spec, self._reads, self._paths = checkpoint.spec, reads, checkpoint.family.modules
        self._embeds = checkpoint.family.embeds
        self._rows = checkpoint.family.rows
        if self._rows:
            register()
        if leaving:
            register_language()
        attention = {"language_attention": LANGUAGE_ATTENTION} if leaving else {}
        model = empty_model(checkpoint, tower_attention=NAME if self._rows else "eager", **attention)
        weights = streamed(checkpoint, model, max((*reads.layers, self._spec.feature_layer)))
        if resident:
            model.load_state_dict({name: weights[name] for name in weights}, assign=True, strict=False)
            if checkpoint.spec.language.tied:
                model.tie_weights()
            model.requires_grad_(False)
        else:
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
            **accepted(self._model, visual | {"mm_token_type_ids": (ids == self._spec.image_token_id).int()}),
        )
        return np.asarray(output.logits[0].float())

    @torch.inference_mode()
    def outputs(
        self,
        pixels: torch.Tensor,
        picture: PackedPicture,
        host: Mapping[str, torch.Tensor],
        cuts: TowerCuts | None = None,
    ) -> dict[str, torch.Tensor]:
        """Everything that methods read, by name. pixels [T, 3, P, P]; absent tiles are zero.

        host     readings that no tower computes
        cuts     tokens leave inside the tower: what methods see then
        """
        tiles, tower = self._spec.picture.tiles_max, self._model.get_submodule(self._paths.tower)
        named: dict[str, torch.Tensor] = {}
        for t, tile in enumerate(pixels):
            if cuts is not None:
                read = self._cut(tower, tile, torch.from_numpy(picture.slot[t] >= 0).float(), cuts)
            else:
                if self._rows:
                    read = read_rows(tower, self._spec, tile, self._reads)
                else:
                    read = read_tile(tower, self._spec, tile, self._reads, self._paths.norm)
                if "projected" in self._reads:
                    read["projected"] = torch.from_numpy(self.project(read["features"]))
            for name, value in read.items():
                named.setdefault(name, torch.zeros(tiles, *value.shape))[t] = value
        named |= {name: host[name] for name in self._reads.host}
        geometry = {"slot": picture.slot, "region": picture.region, "places": picture.places}
        return named | {name: torch.from_numpy(np.array(value)) for name, value in geometry.items()}

    def _cut(self, tower: Any, tile: torch.Tensor, valid: torch.Tensor, cuts: TowerCuts) -> dict[str, torch.Tensor]:
        """What one tile of the tower gives when it is cut; its attention is then the one that can be told of sizes."""
        reads = self._cut_reads(cuts)
        if self._rows:
            read = cut_rows(tower, self._spec, tile, valid, cuts, reads)
        else:
            register()
            tower.set_attn_implementation(NAME)
            try:
                read = cut_tile(tower, self._spec, tile, valid, cuts, reads, self._paths.norm)
            finally:
                tower.set_attn_implementation("eager")
        if "projected" in self._reads:
            read["projected"] = torch.from_numpy(self.project(read["features"])) * read[ALIVE][:, None]
        return read

    def _cut_reads(self, cuts: TowerCuts) -> Reads:
        """Without what these cuts do not carry."""
        carried = cuts.method.watch is not None
        return Reads(frozenset(read for read in self._reads if carried or read.kind != "carried"))

    @torch.inference_mode()
    def project(self, rows: torch.Tensor, deepstack: int | None = None) -> np.ndarray:
        """The connector behind the merge, or one of those of features that enter behind decoder layers: [K, merge^2 C] -> [K, D]."""
        path = self._paths.connector if deepstack is None else f"{self._paths.deepstack}.{deepstack}"
        module = self._model.get_submodule(path)
        if self._rows:  # it merges by itself
            return np.asarray(module(rows.reshape(-1, self._spec.connector.inputs)).float())
        return np.asarray(module(rows[None])[0].float())

    @torch.inference_mode()
    def logits_of_cuts(
        self,
        embeds: np.ndarray,
        positions: np.ndarray,
        last: int,
        cuts: Sequence[ForcedCut],
        prompt: PromptRows,
        following: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """As `logits`, rows of the prompt leaving as in `cuts`; and behind each the rows that the method itself would let go on.

        following: positions [axes, t] behind each cut of the rows after the prompt
        """
        width = self._spec.language.hidden
        rows, *entering = torch.split(torch.from_numpy(np.ascontiguousarray(embeds)), width, dim=1)
        decoder = self._model.get_submodule(self._paths.language)
        leaving = LeavingRows(decoder, cuts, prompt, positions, following, rows, entering)
        at = torch.from_numpy(np.ascontiguousarray(positions))
        with leaving.watching():
            hidden = decoder(
                inputs_embeds=rows[None],
                position_ids=at if len(at) == 1 else at[:, None],
                use_cache=False,
            ).last_hidden_state
        head = self._model.get_submodule(self._paths.head)
        return np.asarray(head(hidden[0, -last:]).float()), leaving.own

    @torch.inference_mode()
    def logits(self, embeds: np.ndarray, positions: np.ndarray, last: int) -> np.ndarray:
        """The language model over given rows [S, row width] at positions [axes, S]: logits [last, V] of the final rows."""
        width = self._spec.language.hidden
        rows, *further = torch.split(torch.from_numpy(np.ascontiguousarray(embeds))[None], width, dim=2)
        entering: dict[str, Any] = {}
        if further:  # to every row: what enters at rows of text is zero
            entering = {
                "visual_pos_masks": torch.ones(rows.shape[:2], dtype=torch.bool),
                "deepstack_visual_embeds": [one[0] for one in further],
            }
        at = torch.from_numpy(np.ascontiguousarray(positions))
        # Without a mask, transformers takes a jump in the positions for the start of another packed sequence.
        hidden = self._model.get_submodule(self._paths.language)(
            attention_mask=torch.ones(1, len(embeds), dtype=torch.int64),
            inputs_embeds=rows,
            position_ids=at if len(at) == 1 else at[:, None],
            use_cache=False,
            **entering,
        ).last_hidden_state
        return np.asarray(self._model.get_submodule(self._paths.head)(hidden[0, -last:]).float())
