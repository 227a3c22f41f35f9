"""A model family of your own: data and pure functions, most of them those of a family that is already known.

edgeprune export FOLDER --budget 0.2 --family docs/examples/family.py:VIDEO

LLaVA-NeXT-Video answers questions about still pictures as LLaVA-NeXT does, with the same connector, tiles and prompt; only its name in
config.json and the placeholder where config.json is silent are others. `Family` in edgeprune/models/families/base.py says what each field
means, and the parity gate, which runs transformers' own model, says whether they are right.
"""

from edgeprune.models.families import Family, llava, llava_next
from edgeprune.models.families.common import part, two_linears
from edgeprune.models.towers import tower_from_config


def tower(config):
    return tower_from_config(part(config, "vision_config"), ("clip_vision_model", "siglip_vision_model"))


VIDEO = Family(
    "llava_next_video",
    "LLaVA-NeXT-Video (still pictures)",
    tower=tower,
    connector=two_linears,
    feature=llava.feature,
    picture=llava_next.LLAVA_NEXT.picture,
    modules=llava.MODULES,
    image_token_id=32001,
    learned=llava_next.NEWLINE,
    reference=llava_next.reference,
    configure=llava_next.configure,
)
