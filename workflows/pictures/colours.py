"""The colours of classes, differences and windows in every picture, page and colour table."""

from __future__ import annotations

from typing import NamedTuple

from transforms.labels import ENHANCING, NECROTIC_CORE, OEDEMA


class Colour(NamedTuple):
    """Red, green and blue, each 0 to 255."""

    red: int
    green: int
    blue: int


CLASS_COLOURS = {  # three of Okabe and Ito's colours, told apart by colour-blind readers and on grey
    NECROTIC_CORE: Colour(213, 94, 0),
    OEDEMA: Colour(86, 180, 233),
    ENHANCING: Colour(240, 228, 66),
}
BACKGROUND_COLOUR = Colour(128, 128, 128)
"""For charts in which the background has a share; pictures of scans leave it uncoloured."""
HEAT_COLOURS = (
    *(Colour(0, 0, 4), Colour(51, 10, 95), Colour(120, 28, 109), Colour(187, 55, 84)),
    *(Colour(237, 105, 37), Colour(252, 181, 25), Colour(252, 255, 164)),
)
"""From 0 to 1 in equal steps: "inferno" by van der Walt and Smith (CC0), as in matplotlib."""
WINDOW_COLOUR = Colour(0, 158, 115)
"""Okabe and Ito's bluish green: frames the slices in use, and stands for no class."""
DISAGREEMENT_COLOURS = {  # three more of theirs, by how a prediction departs from a reference
    "missed": Colour(204, 121, 167),
    "invented": Colour(0, 158, 115),
    "another class": Colour(230, 159, 0),
}
