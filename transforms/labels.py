"""Modalities, label values, regions and colours of BraTS: the only copy in this repository."""

from __future__ import annotations

from typing import NamedTuple

MODALITIES = ("flair", "t1ce", "t1", "t2")
"""Names used in this project, in the order in which the network stacks its channels."""

MODALITY_TITLES = {"flair": "FLAIR", "t1ce": "T1ce", "t1": "T1", "t2": "T2"}
"""How they are written for people."""

STUDY_MODALITIES = ("flair", "t1ce")

MODALITY_SUFFIXES = {
    "flair": ("flair", "t2f"),
    "t1ce": ("t1ce", "t1c"),
    "t1": ("t1", "t1n"),
    "t2": ("t2", "t2w"),
}
"""File name endings per modality: BraTS 2018 to 2021 first, BraTS 2023 and later second."""

SEGMENTATION_SUFFIX = "seg"

BACKGROUND, NECROTIC_CORE, OEDEMA, ENHANCING = 0, 1, 2, 3
"""Class indices inside this project. Enhancing tumour is 4 in files up to BraTS 2022, 3 from 2023 on."""

ENHANCING_IN_FILES_TO_2022 = 4
ENHANCING_IN_FILES_FROM_2023 = 3

CLASS_NAMES = ("background", "necrotic core", "oedema", "enhancing tumour")
NUM_CLASSES = len(CLASS_NAMES)

REGIONS = {  # ET ⊂ TC ⊂ WT
    "WT": (NECROTIC_CORE, OEDEMA, ENHANCING),
    "TC": (NECROTIC_CORE, ENHANCING),
    "ET": (ENHANCING,),
}
REGION_NAMES = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}


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
