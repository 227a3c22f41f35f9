"""Vision-language families, one file each: how a checkpoint's files are read and how its picture enters the prompt.

Adding one is a file with its `Family` and one line here, an entry point in the group `edgeprune.families`, or `--family file.py:NAME`.
"""

from __future__ import annotations

from edgeprune.models.families.base import Family, ModulePaths
from edgeprune.models.families.idefics3 import IDEFICS3
from edgeprune.models.families.internvl import INTERNVL
from edgeprune.models.families.llava import LLAVA
from edgeprune.models.families.llava_next import LLAVA_NEXT
from edgeprune.models.families.llava_onevision import LLAVA_ONEVISION
from edgeprune.models.families.qwen2_5_vl import QWEN2_5_VL
from edgeprune.models.families.qwen2_vl import QWEN2_VL
from edgeprune.models.families.qwen3_vl import QWEN3_VL
from edgeprune.models.families.smolvlm import SMOLVLM
from edgeprune_runtime.errors import CheckpointError
from edgeprune_runtime.registry import Registry

__all__ = ["FAMILIES", "Family", "ModulePaths"]

FAMILIES: Registry[Family] = Registry("model family", group="edgeprune.families", kind=Family, error=CheckpointError)
for _family in (LLAVA_NEXT, LLAVA, LLAVA_ONEVISION, INTERNVL, SMOLVLM, IDEFICS3, QWEN3_VL, QWEN2_5_VL, QWEN2_VL):
    FAMILIES.add(_family.name, _family)
