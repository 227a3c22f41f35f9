"""What several families read in the same way."""

from __future__ import annotations

from edgeprune.models.config.section import Section
from edgeprune.models.spec import ConnectorSpec, DecoderSpec, TowerSpec
from edgeprune.models.towers.base import activation
from edgeprune_runtime.errors import CheckpointError


def part(config: Section, key: str) -> Section:
    """vision_config or text_config: transformers would fill in its default, a model of billions of parameters unrelated to the weights."""
    if not config.has(key):
        raise CheckpointError(
            f"config.json has no {key}; expected an object that describes this part of the model; "
            "correct the file or save the model again with transformers' save_pretrained"
        )
    return config.section(key)


def two_linears(config: Section, tower: TowerSpec, decoder: DecoderSpec) -> ConnectorSpec:
    """LLaVA's connector: linear, activation, linear on each patch."""
    return ConnectorSpec(
        inputs=tower.hidden,
        outputs=decoder.hidden,
        activation=activation(config, "projector_hidden_act", "gelu"),
        bias=config.flag("multimodal_projector_bias", True),
    )
