"""The vision-language families beside LLaVA and LLaVA-NeXT: what each one's folder holds."""

from .family import Family
from .idefics3 import IDEFICS3, SMOLVLM
from .internvl import INTERNVL
from .llava_onevision import LLAVA_ONEVISION
from .qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL

FAMILIES: dict[str, Family] = {
    "internvl": INTERNVL,
    "idefics3": IDEFICS3,
    "smolvlm": SMOLVLM,
    "llava_onevision": LLAVA_ONEVISION,
    "qwen2_vl": QWEN2_VL,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
}

__all__ = ["FAMILIES", "Family"]
