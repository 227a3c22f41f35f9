"""Which rails are a Jetson's power: by what the board says it is and how it labels them, never by the kind of a monitor.

One input rail where the board has one; else the sum that NVIDIA documents for it (Jetson Linux Developer Guide,
software-based power consumption modeling). On AGX Orin VDDQ_VDD2_1V8AO is fed from VIN_SYS_5V0 and not added. A sum of
only some of them, or of rails nobody knows, would be a number that looks like the board's and is not: it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune_runtime.errors import MeasurementError

#: By chip: sets of labels that cover the board, the fullest first.
TOTALS = {
    "tegra210": (("POM_5V_IN",), ("VDD_IN",)),
    "tegra186": (("VDD_IN",),),
    "tegra194": (("VDD_IN",), ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
    "tegra234": (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
    "tegra264": (("VIN",), ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")),
}
#: The one monitor without a label that a board is known to have: (its kind, what it measures).
UNLABELLED = {"tegra264": ("ina238", "VIN")}


def total_labels(found: Sequence[str], chip: str) -> tuple[str, ...]:
    """The labels to add up. chip: "" where the board does not say; then any board's labels will do.

    Raises MeasurementError where the rails there are do not make up a total, or two of them bear one name.
    """
    known = TOTALS.get(chip) or tuple(dict.fromkeys(labels for sets in TOTALS.values() for labels in sets))
    total = next((labels for labels in known if set(labels) <= set(found)), None)
    if total is None:
        raise MeasurementError(
            f"the power rails {', '.join(found)} do not make up a board: expected "
            f"{' or '.join('+'.join(labels) for labels in known)}{f' on {chip}' if chip else ''}; "
            "look at the monitors' labels with `sensors`"
        )
    if double := [label for label in total if list(found).count(label) > 1]:
        raise MeasurementError(
            f"two monitors have a power rail called {double[0]}, and which one is the board's is not known; "
            "unbind or rename the one that was added"
        )
    return total
