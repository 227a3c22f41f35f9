"""What a family is: how its files are read and how its picture enters the prompt. Data and pure functions only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgeprune.models.config.processor import ProcessorFiles
from edgeprune.models.config.section import Section
from edgeprune.models.families.common import part
from edgeprune.models.spec import ConnectorSpec, DecoderSpec, DeepstackSpec, TowerSpec
from edgeprune_runtime.pictures.spec import PictureSpec
from edgeprune_runtime.pictures.tiling import Placement


class ModulePaths(NamedTuple):
    """Where transformers keeps the parts of the model: what calibration, pruning and the gate walk.

    connector  the module that takes merged rows, [..., merge^2 C] -> [..., D]
    norm       of the tower, behind its last block, where the connector's input goes through it
    deepstack  the list of connectors of what is added behind decoder layers
    """

    tower: str
    connector: str
    language: str
    head: str = "lm_head"
    norm: str | None = None
    deepstack: str | None = None


def _nothing(config: Section) -> None:
    return None


@dataclass(frozen=True)
class Family:
    """One vision-language architecture.

    name       its `model_type` in config.json
    title      what people call it
    tower      config.json -> the vision tower
    connector  (config.json, tower, decoder) -> what stands between them
    feature    (config.json, tower) -> 0-based block whose output goes to the connector
    picture    (config.json, image processor files, tower, connector) -> tiles and their place in the prompt
    modules    where transformers keeps the parts
    renames    (pattern, replacement) that bring tensor names to the three prefixes "vision_tower.", "language_model." and
               "multi_modal_projector.", in order
    image_token_id  what a silent config.json means
    tied       whether head and embedding table are one where config.json is silent
    learned    tensor of the learned row of its packed pictures
    foreign    `model_type`s of folders with the same models in a layout of their own, for which `refuse` has a sentence
    refuse     raises CheckpointError for what transformers would accept and answer differently
    reference  (pictures, placement) -> settings for transformers' image processor, so that it makes the same tiles; None: it cannot
    embeds     the reference is given embeddings instead of ids: its forward pass moves ids to where its weights are, and those of a model
               that is streamed in are nowhere
    configure  (pictures) -> settings of transformers' configuration that must follow
    text       config.json -> what it says of the language model
    rows       transformers' processor and tower know a picture as one row of pixels per patch, the patches of a visual token together
    deepstack  (config, connector) -> what visual tokens bring for behind the first decoder layers
    """

    name: str
    title: str
    tower: Callable[[Section], TowerSpec]
    connector: Callable[[Section, TowerSpec, DecoderSpec], ConnectorSpec]
    feature: Callable[[Section, TowerSpec], int]
    picture: Callable[[Section, ProcessorFiles, TowerSpec, ConnectorSpec], PictureSpec]
    modules: ModulePaths
    image_token_id: int
    renames: tuple[tuple[str, str], ...] = ()
    tied: bool = False
    learned: str | None = None
    foreign: tuple[str, ...] = ()
    refuse: Callable[[Section], None] = _nothing
    reference: Callable[[PictureSpec, Placement], Mapping[str, Any] | None] = lambda picture, place: {}
    embeds: bool = False
    configure: Callable[[PictureSpec], Mapping[str, Any]] = lambda picture: {}
    text: Callable[[Section], Section] = lambda config: part(config, "text_config")
    rows: bool = False
    deepstack: Callable[[Section, ConnectorSpec], tuple[DeepstackSpec, ...]] = lambda config, connector: ()
