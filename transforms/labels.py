"""Modalities, label values and regions of BraTS: the only copy in this repository."""

from __future__ import annotations

MODALITIES = ("flair", "t1ce", "t1", "t2")
"""Names used in this project, in the order in which the network stacks its channels."""

MODALITY_TITLES = {"flair": "FLAIR", "t1ce": "T1ce", "t1": "T1", "t2": "T2"}
"""How they are written for people."""

STUDY_MODALITIES = ("flair", "t1ce")

SEGMENTATION_SUFFIX = "seg"

BACKGROUND, NECROTIC_CORE, OEDEMA, ENHANCING = 0, 1, 2, 3
"""Class indices inside this project. Enhancing tumour is 4 in files up to BraTS 2022, 3 from 2023 on."""

ENHANCING_IN_FILES_TO_2022 = 4
ENHANCING_IN_FILES_FROM_2023 = 3

LABEL_TOLERANCE = 1.001e-3  # a thousandth, as float32 holds it
"""Within which a value in a file counts as the whole number beside it: programs that resample leave 0.9999."""

CLASS_NAMES = ("background", "necrotic core", "oedema", "enhancing tumour")
NUM_CLASSES = len(CLASS_NAMES)

REGIONS = {  # ET ⊂ TC ⊂ WT
    "WT": (NECROTIC_CORE, OEDEMA, ENHANCING),
    "TC": (NECROTIC_CORE, ENHANCING),
    "ET": (ENHANCING,),
}
REGION_NAMES = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}
