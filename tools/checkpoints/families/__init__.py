"""The vision-language families beside LLaVA and LLaVA-NeXT: what each one's folder holds."""

from .family import Family
from .idefics3 import IDEFICS3, SMOLVLM
from .internvl import INTERNVL
from .llava_onevision import LLAVA_ONEVISION

FAMILIES: dict[str, Family] = {
    "internvl": INTERNVL,
    "idefics3": IDEFICS3,
    "smolvlm": SMOLVLM,
    "llava_onevision": LLAVA_ONEVISION,
}

__all__ = ["FAMILIES", "Family"]
