"""A vision tower of your own: Chinese-CLIP's, which is CLIP's under another name.

    from edgeprune.models.towers import TOWERS
    TOWERS.add(CHINESE_CLIP.name, CHINESE_CLIP)

or an entry point in the group `edgeprune.towers`. What differs from tower to tower is a field of TowerSpec (norms, biases, class token,
gated MLP, scales): a tower that needs none that is not there yet needs no graph code. A family says which towers it may have.
"""

from edgeprune.models.towers.base import TowerDefaults, TowerKind, plain_tower
from edgeprune.models.towers.clip import CLIP

DEFAULTS = TowerDefaults("chinese_clip", 32, "quick_gelu", 1e-5, prefix_tokens=1)


def read(vision):
    return plain_tower(vision, DEFAULTS, pre_norm=True, patch_bias=False)


CHINESE_CLIP = TowerKind("chinese_clip_vision_model", read, CLIP.names)
