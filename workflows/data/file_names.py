"""What the files of a case are called: one table, which everything that looks for files follows."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

from transforms.labels import SEGMENTATION_SUFFIX

MODALITY_SUFFIXES = {
    "flair": ("flair", "t2f", "t2flair", "t2_flair", "t2-flair"),
    "t1ce": ("t1ce", "t1c", "t1gd", "ct1", "t1post", "t1_post", "t1-post", "t1_ce", "t1_gd", "t1wce", "t1ce_t1w"),
    "t1": ("t1", "t1n", "t1w", "t1pre", "t1_pre"),
    "t2": ("t2", "t2w"),
}
"""Ends of file names by modality, before the extension and after `_`, `-` or `.`: BraTS to 2021 first, then from 2023,
then other public data sets (docs/reference/data-sets.md names them with their sources).

A new name is one more entry here.
"""

SEGMENTATION_SUFFIXES = (
    *(SEGMENTATION_SUFFIX, "segm", "tumor_segmentation", "tumour_segmentation", "tumor_seg", "tumour_seg"),
    *("tumorseg", "tumor_mask", "tumour_mask", "tumormask", "tumourmask"),
    *("glistrboost_manuallycorrected", "glistrboost", "automated_approx_segm"),
)
"""Ends of names of tumour segmentations; of several in one case the first is used."""

MASK_SUFFIXES = ("seg_mask", "dseg", "segmentation", "segmentations", "labels", "label", "mask")
"""Ends of names that a tumour segmentation may have and a mask of something else as well: the content decides."""

ALL_MASK_SUFFIXES = SEGMENTATION_SUFFIXES + MASK_SUFFIXES

NOT_TUMOUR = re.compile(
    r"(?:^|[_.-])(?:brain|parenchyma|skull|wm|gm|csf|(?:white|grey|gray|_)*matter|tissues?|ventricles?|vessels?|healthy)$",
    re.IGNORECASE,
)
"""Ends of what stands before the suffix of a segmentation of something else, such as P1_brain_segmentation."""

MODALITY_OF_SUFFIX = {suffix: modality for modality, suffixes in MODALITY_SUFFIXES.items() for suffix in suffixes}

SLICER_ENDING = ".seg.nrrd"
"""Of a segmentation of 3D Slicer, whatever else its name says."""
EXTENSIONS = (".nii", ".nii.gz", ".nii.gz.gz", ".mha", ".mhd", ".nrrd", ".nhdr", SLICER_ENDING)
"""In order of preference where a folder holds one image twice: the least packed is read fastest."""

DATALIST_LABEL = "label"
DATASET_FILE = "dataset.json"
"""The list of cases of the Medical Segmentation Decathlon and of nnU-Net."""

_EXTENSION = r"(?P<extension>\.nii(?:\.gz){0,2}|\.mh[ad]|(?:\.seg)?\.nrrd|\.nhdr)"
IMAGE_FILE = re.compile(rf"(?P<stem>.+?){_EXTENSION}", re.IGNORECASE)
"""An image file of any kind that can be read."""


def _longest_first(suffixes: tuple[str, ...]) -> str:
    return "|".join(sorted(suffixes, key=len, reverse=True))


_GADOLINIUM = r"(?P<gadolinium>ce-[a-z0-9]+(?:_[a-z]+-[a-z0-9]+)*_t1w)"  # BIDS: sub-1_ce-gadolinium_T1w
_STRIPPED = r"(?P<stripped>[_-](?:skull_?strip(?:ped)?|stripped|bet|brain))?"
_IMAGE = re.compile(
    rf"(?:(?P<case>.+?)[_.-])??(?:{_GADOLINIUM}|(?P<suffix>{_longest_first(tuple(MODALITY_OF_SUFFIX))})){_STRIPPED}",
    re.I,
)
_SEGMENTATION = re.compile(rf"(?:(?P<case>.+?)[_.-])??(?P<suffix>{_longest_first(ALL_MASK_SUFFIXES)})", re.I)
_BRATS_2013 = re.compile(r"VSD\.Brain.*?\.(?:MR_)?(?P<suffix>flair|t1c|t1|t2|ot)(?:\.\d+)?", re.I)
_BIDS_ENTITY = re.compile(r"_(?:acq|ce|desc|dir|echo|label|part|rec|res|run|space)-[a-z0-9]+", re.I)
_NUMBERING = re.compile(r"\d{1,2}")

LABEL_MAP_STEM = re.compile(
    r"(?:(?P<case>.+)[_-])?(?:seg(?:m|mentations?)?|pred(?:iction)?|labels?|mask|dseg)", re.IGNORECASE
)
PROBABILITIES_STEM = re.compile(r"(?:.+[_-])?(?:probabilities|uncertainty)", re.IGNORECASE)


SESSION_FOLDER = re.compile(
    r"(?:ses|session|week|day|month|year|visit|time|time[_-]?point|tp|scan|exam|study|follow[_-]?up|fu|pre|post)[_-]?\d*"
    r"(?:-\d+)?|(?:pre|post)[_-]?op|baseline|\d{1,4}|\d{4}[_.-]?\d\d[_.-]?\d\d",
    re.IGNORECASE,
)
"""A folder of one examination, which is named after its patient only by the folder above it."""

_PART_FOLDER = re.compile(
    r"anat|nifti|nii|native|atlas|images?|masks?|labels?|(?:.+[_-])?segmentations?|skull_?strip(?:ped)?", re.IGNORECASE
)


@dataclass(frozen=True)
class NamedFile:
    """What the name of a file says of it.

    Attributes:
        kind: modality, or `labels.SEGMENTATION_SUFFIX`.
        case: the case's id as it stands in the name; empty where there is none.
        rank: of several files of one kind one with the lowest is used.
        packing: of files that are equal otherwise the one with the lowest is read fastest.
        sure: whether the name alone says that it is a tumour segmentation, or an image.
        suffix: the end of the name that says so, in lower case.
    """

    kind: str
    case: str
    rank: int
    packing: int
    sure: bool
    suffix: str

    @classmethod
    def read(cls, name: str) -> Self | None:
        """From a file's name; None where it is neither an image of a known modality nor a segmentation."""
        file = IMAGE_FILE.fullmatch(name)
        if file is None or name.startswith("."):
            return None
        stem, packing = file["stem"], EXTENSIONS.index(file["extension"].lower())
        if match := _BRATS_2013.fullmatch(stem):
            kind = MODALITY_OF_SUFFIX.get(match["suffix"].lower(), SEGMENTATION_SUFFIX)
            return cls(kind, "", 0, packing, True, match["suffix"].lower())
        if file["extension"].lower() == SLICER_ENDING and not _SEGMENTATION.fullmatch(stem):
            drawn_on = _IMAGE.fullmatch(stem)
            case = (drawn_on["case"] or "") if drawn_on else stem
            return cls(SEGMENTATION_SUFFIX, _case_id(case), 0, packing, True, SEGMENTATION_SUFFIX)
        if match := _IMAGE.fullmatch(stem):
            return cls._image(match, packing)
        if match := _SEGMENTATION.fullmatch(stem):
            return cls._segmentation(match, packing)
        return None

    @classmethod
    def _image(cls, match: re.Match[str], packing: int) -> Self | None:
        before = match["case"] or ""
        if re.split("[_.-]", before)[-1].lower() in MODALITY_OF_SUFFIX:
            return None  # P1_t1ce-t1 is the difference of two images
        suffix = (match["suffix"] or "t1ce").lower()
        rank = 0 if match["stripped"] else 1  # the network is trained on stripped scans
        return cls(MODALITY_OF_SUFFIX[suffix], _case_id(before.removesuffix("_brain")), rank, packing, True, suffix)

    @classmethod
    def _segmentation(cls, match: re.Match[str], packing: int) -> Self | None:
        before, suffix = match["case"] or "", match["suffix"].lower()
        if NOT_TUMOUR.search(before):
            return None
        rank = 2 * ALL_MASK_SUFFIXES.index(suffix)
        if before.lower() in MODALITY_OF_SUFFIX:  # ct1_seg_mask: drawn on that image
            before, rank = "", rank + 1
        return cls(SEGMENTATION_SUFFIX, _case_id(before), rank, packing, suffix in SEGMENTATION_SUFFIXES, suffix)

    def of_case(self, name: str, ids: Collection[str]) -> Self:
        """The same, as a file of one of these cases if its name allows it: no_tumour_seg belongs to no_tumour."""
        file = IMAGE_FILE.fullmatch(name)
        if file is None or self.kind != SEGMENTATION_SUFFIX or self.case in ids:
            return self
        for number, suffix in enumerate(ALL_MASK_SUFFIXES):
            match = re.fullmatch(rf"(.+)[_.-]{suffix}", file["stem"], re.IGNORECASE)
            if match and match[1] in ids:
                sure = suffix in SEGMENTATION_SUFFIXES
                return replace(self, case=match[1], rank=2 * number, sure=sure, suffix=suffix)
        return self


def _case_id(before: str) -> str:
    """The id in the part of a name before its suffix; a session alone names no case."""
    if before.lower().startswith("sub-"):
        before = _BIDS_ENTITY.sub("", before)
    return "" if SESSION_FOLDER.fullmatch(before) and not before.isdigit() else before


def is_numbering(case: str) -> bool:
    """Whether an id may be a mere number of a series: 4_FLAIR."""
    return bool(_NUMBERING.fullmatch(case))


def is_part_of_case(folder: str) -> bool:
    """Whether a folder holds a part of a case and so names none: anat, 4_FLAIR, VSD.Brain.XX.O.MR_T1.54515."""
    if _PART_FOLDER.fullmatch(folder) or NamedFile.read(folder):
        return True
    named = NamedFile.read(f"{folder}.nii")
    return named is not None and (not named.case or is_numbering(named.case))


def names_tried(modality: str) -> str:
    """The names under which an image is looked for, in words."""
    first, *others = MODALITY_SUFFIXES[modality][:3]
    names = [f"*_{first}.nii", *(f"*-{other}.nii" for other in others)]
    return f"{', '.join(names[:-1])} and {names[-1]} (or {', '.join(EXTENSIONS[1:3])})"
