"""The eager reference: transformers' own modules, their weights streamed in one module at a time.

The model is built without memory for its weights; accelerate's hooks read each module's tensors from the checkpoint just before it
runs and drop them afterwards, so the reference of a model larger than memory can be computed. Weights come through edgeprune's own
reader: a wrong name or shape shows here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgeprune.errors import ExportError
from edgeprune.models.checkpoint import Checkpoint
from edgeprune.models.names import canonical_name, is_later_block
from edgeprune.models.weights import Weights
from edgeprune.tokens.seen import Reads
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
    def seen(self, pixels: torch.Tensor, layout: Layout, host: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Everything that methods read, by name. pixels [T, 3, P, P]; absent tiles are zero. host: readings that no tower computes."""
        tiles = self._spec.preprocess.tiles_max
        found: dict[str, torch.Tensor] = {}
        for t, tile in enumerate(pixels):
            for name, value in self._tile(tile, self._reads).items():
                found.setdefault(name, torch.zeros(tiles, *value.shape))[t] = value
        found |= {name: host[name] for name in self._reads.host}
        found["mosaic"] = torch.tensor(layout.mosaic, dtype=torch.int64)
        return found | {
            "slot": torch.from_numpy(np.array(layout.slot)),
            "region": torch.from_numpy(np.array(layout.region)),
        }

    def _tile(self, tile: torch.Tensor, reads: Reads) -> dict[str, torch.Tensor]:
        """Everything that methods read of one tile [3, P, P], by name."""
        queries_keys: dict[tuple[int, str], torch.Tensor] = {}
        tower = self._model.model.vision_tower
        with _listening(tower, {*reads.wide, *reads.keys}, queries_keys):
            out = tower(tile[None], output_hidden_states=True, output_attentions=True)
        state = out.hidden_states[self._spec.feature_layer + 1][0]
        first = 1  # only the class token is dropped, as LLaVA does
        found = {"features": state[first:]}
        for i in reads.attention:
            found[f"attention_{i}"] = out.attentions[i][0, :, 0, first:]
        for i in reads.wide:
            q, k = queries_keys[i, "q"], queries_keys[i, "k"]
            found[f"wide_{i}"] = torch.softmax(q[0] @ k.T / k.shape[1] ** 0.5, dim=0)[first:]
        for i in reads.map:
            found[f"map_{i}"] = out.attentions[i][0].mean(dim=0)[:, first:]
        for i in reads.keys:
            found[f"keys_{i}"] = queries_keys[i, "k"][first:]
        if reads.class_feature:
            found["class_feature"] = state[0]
        if reads.projected:
            found["projected"] = torch.from_numpy(self.project(state[first:]))
        return found

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


@contextmanager
def _listening(tower: torch.nn.Module, layers: set[int], heard: dict[tuple[int, str], torch.Tensor]) -> Iterator[None]:
    """Note what the query and key projections of these layers put out: heard[layer, "q"] [N + 1, C]."""

    def note(place: tuple[int, str], output: torch.Tensor) -> None:
        heard[place] = output[0]

    handles = []
    for name, module in tower.named_modules():
        found = re.match(r"tower\.(\d+)\.([qk])\.weight$", canonical_name(f"vision_tower.{name}.weight") or "")
        if found and int(found[1]) in layers:
            place = (int(found[1]), found[2])
            handles.append(module.register_forward_hook(lambda m, i, output, place=place: note(place, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
