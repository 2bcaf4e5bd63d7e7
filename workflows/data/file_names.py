"""What the files of a case are called: one table, which everything that looks for files follows."""

from __future__ import annotations

import re

from transforms.labels import SEGMENTATION_SUFFIX

MODALITY_SUFFIXES = {
    "flair": ("flair", "t2f"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t1": ("t1", "t1n"),
    "t2": ("t2", "t2w"),
}
"""Ends of file names by modality, before the extension and after `_` or `-`: BraTS to 2021 first, then from 2023, then
others.

A new name is one more entry here.
"""

MODALITY_OF_SUFFIX = {suffix: modality for modality, suffixes in MODALITY_SUFFIXES.items() for suffix in suffixes}

EXTENSIONS = (".nii", ".nii.gz", ".nii.gz.gz", ".nrrd", ".nhdr", ".seg.nrrd", ".mha", ".mhd")
"""In order of preference where a folder holds one image twice: the least packed is read fastest."""

DATALIST_LABEL = "label"
DECATHLON_FILE = "dataset.json"

_EXTENSION = r"(?P<extension>\.nii(?:\.gz){0,2}|(?:\.seg)?\.nrrd|\.nhdr|\.mh[ad])"
NIFTI_NAME = re.compile(rf"(?P<stem>.+?){_EXTENSION}", re.IGNORECASE)
CASE_FILE = re.compile(
    rf"(?:(?P<id>.+)[_-])?(?P<suffix>{'|'.join([*MODALITY_OF_SUFFIX, SEGMENTATION_SUFFIX])}){_EXTENSION}",
    re.IGNORECASE,
)
"""An image or a segmentation, with the case's id where it stands in the name."""

LABEL_MAP_STEM = re.compile(r"(?:(?P<case>.+)[_-])?(?:seg|segmentation|pred|prediction|labels?|mask)", re.IGNORECASE)
IMAGE_STEM = re.compile(rf"(?:.+[_-])?(?:{'|'.join(MODALITY_OF_SUFFIX)})", re.IGNORECASE)
PROBABILITIES_STEM = re.compile(r"(?:.+[_-])?probabilities", re.IGNORECASE)

NAMED_AS_FROM_2023 = re.compile(r"-(?:t1n|t1c|t2w|t2f)\.", re.IGNORECASE)
TIME_POINT = re.compile(r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}")
"""The id of a case that is one of several examinations of a patient."""


def names_tried(modality: str) -> str:
    """The names under which an image is looked for, in words."""
    first, *others = MODALITY_SUFFIXES[modality]
    names = [f"*_{first}.nii", *(f"*-{other}.nii" for other in others)]
    return f"{', '.join(names[:-1])} and {names[-1]} (or {', '.join(EXTENSIONS[1:])})"
