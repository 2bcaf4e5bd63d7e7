"""What people and programs call classes and regions of a tumour, in `dataset.json` and in segments of 3D Slicer."""

from __future__ import annotations

import re
from typing import NamedTuple

from transforms.labels import BACKGROUND, ENHANCING, NECROTIC_CORE, OEDEMA

CAVITY = 4
"""A resection cavity, which is no class of the network; BraTS labels it so from 2024 on."""


class Meaning(NamedTuple):
    """Of a name.

    Attributes:
        label: index of the class, or `CAVITY`; of a region that of the class that lies in no smaller region.
        is_region: whether other classes lie in it.
    """

    label: int
    is_region: bool = False


MEANINGS = (
    (r"background|\bbg\b", Meaning(BACKGROUND)),
    (r"cavity|\brc\b", Meaning(CAVITY)),
    (r"edema|snfh|flair|infiltrat|\bed\b", Meaning(OEDEMA)),
    (r"non.?enh|necro|cyst|\b(?:ncr|nec|net|netc|cc)\b", Meaning(NECROTIC_CORE)),
    (r"enhanc|active|\b(?:et|at|gd)\b", Meaning(ENHANCING)),
    (r"core|\btc\b", Meaning(NECROTIC_CORE, is_region=True)),
    (r"whole|complete|\bwt\b", Meaning(OEDEMA, is_region=True)),
)
"""By what stands in a name; the first that does holds."""


def meaning_of(name: str) -> Meaning | None:
    """What a name means, whatever its case; None where it says nothing known."""
    words = name.replace("_", " ").lower()
    return next((meaning for pattern, meaning in MEANINGS if re.search(pattern, words)), None)
