"""A vision-language checkpoint as a prunable model: one sample is a picture with its question and, where it is known, its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgeprune.models.checkpoint import Checkpoint
from edgeprune.models.weights.names import canonical_name
from edgeprune.structure.plan import StructurePlan, pruned_model
from edgeprune.structure.sites import Specs
from edgeprune_export.bundle.prompter import prompter_of
from edgeprune_export.gate.eager_model import loaded_model
from edgeprune_export.gate.inputs import LibraryInputs, accepted
from edgeprune_export.pruning.prunable import Batch
from edgeprune_export.pruning.samples import CalibrationSample, noise
from edgeprune_export.pruning.specs import specs_of
from edgeprune_export.pruning.write import pruned_config
from edgeprune_runtime.pictures.load import load_image
from edgeprune_runtime.pictures.packed import pack_picture

QUESTION = "Describe the picture."
_OWN_TOKENS = 8  # without an answer: how many of its own tokens the model is asked to keep saying


class PrunableVlm:
    """transformers' model with all weights, and its calibration samples. `Subject` says what the methods do."""

    def __init__(self, checkpoint: Checkpoint, samples: Sequence[CalibrationSample]) -> None:
        self.module: nn.Module = loaded_model(checkpoint)
        self.specs = specs_of(checkpoint.spec)
        self._checkpoint = checkpoint
        self._image_id = checkpoint.spec.image_token_id
        self._size = checkpoint.spec.vision.image_px
        self._eos = checkpoint.spec.eos_token_ids[:1]
        self.side_by_side = 1
        self._library = LibraryInputs(checkpoint)
        self._prompter = prompter_of(checkpoint)
        self._take(samples)

    def _take(self, samples: Sequence[CalibrationSample]) -> None:
        self._data, self.samples = tuple(samples), len(samples)
        self._answers: dict[int, list[int]] = {}

    def over(self, samples: Sequence[CalibrationSample]) -> PrunableVlm:
        other = copy(self)
        other._take(samples)
        return other

    def batch(self, numbers: Sequence[int], random: torch.Generator | None = None) -> Batch:
        """One sample as it is: a crop or a flip could change the answer."""
        (number,) = numbers
        sample = self._data[number]
        inputs = self._inputs(sample)
        return self._with_answer(inputs, self._answer(number, sample, inputs))

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        return self.features(module, batch)[1]

    def features(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        with self._projected(module) as visual:
            out = module(**batch.inputs, use_cache=False, logits_to_keep=batch.rows, output_hidden_states=True)
        image = out.get("image_hidden_states")
        return torch.cat(visual) if image is None else image, out.logits[0]

    @contextmanager
    def _projected(self, module: nn.Module) -> Iterator[list[Tensor]]:
        """What the connectors put out inside: not every model hands it on. Adapters may stand around the module."""
        paths, made = self._checkpoint.family.modules, list[Tensor]()
        wanted = re.escape(paths.connector) + (rf"|{re.escape(paths.deepstack)}\.\d+" if paths.deepstack else "")
        hooks = [
            one.register_forward_hook(lambda _, given, rows: made.append(rows))
            for name, one in module.named_modules()
            if re.search(rf"(?:^|\.)(?:{wanted})$", name)
        ]
        try:
            yield made
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def attention(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        module: Any = self.module
        language: Any = module.get_submodule(self._checkpoint.family.modules.language)
        before = language.config._attn_implementation
        language.set_attn_implementation("eager")
        try:
            out = module(**batch.inputs, use_cache=False, output_attentions=True, logits_to_keep=1)
        finally:
            language.set_attn_implementation(before)
        assert batch.rows is not None
        last = int(batch.rows[0])
        visual = batch.inputs["input_ids"][0, : last + 1] == self._image_id
        return [(layer[0, :, last, : last + 1], visual) for layer in out.attentions]

    def pruned(self, plan: StructurePlan) -> Specs:
        return specs_of(pruned_model(self._checkpoint.spec, plan))

    def config(self, plan: StructurePlan, smaller: nn.Module) -> dict[str, Any]:
        model = pruned_model(self._checkpoint.spec, plan)
        theirs = cast(Any, smaller).config
        return pruned_config(
            self._checkpoint.path,
            {"tower": model.vision, "language": model.language},
            {"tower": theirs.vision_config, "language": theirs.text_config},
            feature_layer=model.feature_layer,
        )

    def files(self) -> dict[str, Any]:
        return {}

    def stored(self, name: str) -> str | None:
        canonical = canonical_name(name) or ""
        canonical = canonical.replace(".fc_gate.", ".fc_in.").replace(".fc_up.", ".fc_in.").replace(".qkv.", ".q.")
        weights = self._checkpoint.weights
        return weights.dtype(canonical) if canonical in weights.shapes else None

    def _inputs(self, sample: CalibrationSample) -> dict[str, Tensor]:
        spec = self._checkpoint.spec.picture
        image = noise(self._size, sample.seed) if sample.picture is None else load_image(sample.picture)
        picture = pack_picture(spec.place(image.height, image.width), spec)
        visual = self._library.visual(image, spec, picture)
        assert visual is not None  # the checkpoint's own tiling is always the library's
        asked = self._prompter.render(sample.question or QUESTION, images=1)
        ids = self._library.ids(self._prompter.expanded(asked, (picture,)))
        return accepted(self.module, self._of_text(ids) | visual)

    def _of_text(self, ids: Tensor) -> dict[str, Tensor]:
        """What goes with ids [1, S]."""
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self._image_id).int(),
        }

    @torch.no_grad()
    def _answer(self, number: int, sample: CalibrationSample, inputs: dict[str, Tensor]) -> list[int]:
        """Tokens to be said: the known answer with its end, or what the unpruned model says first."""
        if number not in self._answers:
            if sample.answer is not None:
                ids = self._library.tokenizer(sample.answer, add_special_tokens=False).input_ids
                self._answers[number] = [*ids, *self._eos]
            else:
                module: Any = self.module
                out = module.generate(**inputs, max_new_tokens=_OWN_TOKENS, do_sample=False)
                self._answers[number] = [int(token) for token in out[0, inputs["input_ids"].shape[1] :]]
        return self._answers[number]

    def _with_answer(self, inputs: dict[str, Tensor], answer: list[int]) -> Batch:
        prompt = inputs["input_ids"].shape[1]
        ids = torch.cat([inputs["input_ids"], torch.tensor([answer[:-1]], dtype=torch.int64)], dim=1)
        rows = torch.arange(prompt - 1, ids.shape[1])
        return Batch(1, accepted(self.module, inputs | self._of_text(ids)), rows, torch.tensor(answer))
