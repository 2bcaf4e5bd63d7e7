"""What the numbers in label files mean, which differs between the years of BraTS and from Decathlon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.geometry import voxel_ml
from transforms.labels import (
    BACKGROUND,
    CLASS_NAMES,
    ENHANCING,
    ENHANCING_IN_FILES_FROM_2023,
    ENHANCING_IN_FILES_TO_2022,
    LABEL_TOLERANCE,
    NECROTIC_CORE,
    OEDEMA,
)
from workflows.image_files.nifti_files import digest_of, load_image, read_voxels
from workflows.messages.errors import ConfigurationError, DatasetError

MAX_LABEL_VALUES = 256
RESECTION_CAVITY = "resection cavity"
"""Counted as background, since the network knows no such class."""


@dataclass(frozen=True)
class LabelConvention:
    """What the values in the label files of one data set mean.

    Args:
        name: under which datalists and `--labels` refer to it.
        classes: class index by value in the file, background included; several values may stand for one class.
        names: of values that are more special than their class, such as a cyst that counts as necrotic core.
    """

    name: str
    title: str
    classes: Mapping[int, int] = field(hash=False)
    names: Mapping[int, str] = field(default_factory=dict, hash=False)

    def class_name(self, value: int) -> str:
        """What `value` stands for in these files."""
        return self.names.get(value) or CLASS_NAMES[self.classes[value]]

    def class_of(self, value: float) -> int | None:
        """The index of the class that a value found in a file stands for; None if it stands for none."""
        return self.classes.get(int(value)) if float(value).is_integer() else None

    @property
    def values(self) -> dict[int, int]:
        """The value in the files by class index; of several the lowest."""
        return {index: value for value, index in sorted(self.classes.items(), reverse=True)}

    def for_datalist(self) -> dict[str, Any]:
        """The entries by which a datalist says what the labels mean: `label_convention`, and `labels` for people."""
        labels = {str(value): self.class_name(value) for value in sorted(self.classes)}
        return {"label_convention": self.name, "labels": labels}

    def __str__(self) -> str:
        meant = ", ".join(f"{value} {self.class_name(value)}" for value in sorted(self.classes) if value)
        return f"{self.name} ({meant})"


BRATS_TO_2022 = LabelConvention(
    "brats-to-2022",
    "BraTS up to 2022, enhancing tumour is 4",
    {0: BACKGROUND, 1: NECROTIC_CORE, 2: OEDEMA, ENHANCING_IN_FILES_TO_2022: ENHANCING},
)
BRATS_FROM_2023 = LabelConvention(
    "brats-from-2023",
    "BraTS from 2023 on, enhancing tumour is 3",
    {0: BACKGROUND, 1: NECROTIC_CORE, 2: OEDEMA, ENHANCING_IN_FILES_FROM_2023: ENHANCING},
)
DECATHLON = LabelConvention(
    "decathlon",
    "Medical Segmentation Decathlon, oedema is 1, non-enhancing tumour 2, enhancing tumour 3",
    {0: BACKGROUND, 1: OEDEMA, 2: NECROTIC_CORE, 3: ENHANCING},
)
AFTER_TREATMENT = LabelConvention(
    "brats-after-treatment",
    "BraTS after treatment (from 2024 on), enhancing tumour is 3, the resection cavity 4 counts as background",
    {**BRATS_FROM_2023.classes, 4: BACKGROUND},
    {4: RESECTION_CAVITY},
)
PAEDIATRIC = LabelConvention(
    "brats-peds",
    "BraTS paediatric (from 2024 on), enhancing tumour is 1, non-enhancing core 2, cyst 3, oedema 4",
    {0: BACKGROUND, 1: ENHANCING, 2: NECROTIC_CORE, 3: NECROTIC_CORE, 4: OEDEMA},
    {2: "non-enhancing core", 3: "cyst"},
)
BRATS_TO_2015 = LabelConvention(
    "brats-to-2015",
    "BraTS 2013 to 2015, non-enhancing core is 3, enhancing tumour 4",
    {0: BACKGROUND, 1: NECROTIC_CORE, 2: OEDEMA, 3: NECROTIC_CORE, 4: ENHANCING},
    {3: "non-enhancing core"},
)
DEEPBRATUMIA = LabelConvention(
    "deepbratumia",
    "DeepBraTumIA (LUMIERE), enhancing tumour is 1, non-enhancing core 2, oedema 3",
    {0: BACKGROUND, 1: ENHANCING, 2: NECROTIC_CORE, 3: OEDEMA},
)
_ALL = (BRATS_TO_2022, BRATS_FROM_2023, AFTER_TREATMENT, PAEDIATRIC, BRATS_TO_2015, DECATHLON, DEEPBRATUMIA)
LABEL_CONVENTIONS = {convention.name: convention for convention in _ALL}

LABELS_IN_USE = frozenset(value for convention in _ALL for value in convention.classes) - {0}
"""In any known convention; another value is an error of the case that holds it."""

CLASS_WORDS = {
    "background": BACKGROUND,
    "core": NECROTIC_CORE,
    "oedema": OEDEMA,
    "edema": OEDEMA,
    "enhancing": ENHANCING,
}


def convention_named(text: str) -> LabelConvention:
    """A convention by its name, or from what each value means: `1=oedema,2=core,3=enhancing,4=background`.

    Raises:
        ConfigurationError: if it is neither.
    """
    if text in LABEL_CONVENTIONS:
        return LABEL_CONVENTIONS[text]
    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        return convention_of({int(value): CLASS_WORDS[word.strip().lower()] for value, word in pairs})
    except (KeyError, ValueError) as error:
        known = ", ".join(LABEL_CONVENTIONS)
        raise ConfigurationError(
            f"{text!r}: is no label convention; known are {known}, or write what each value means, as in "
            "1=oedema,2=core,3=enhancing,4=background."
        ) from error


def convention_of(classes: Mapping[int, int], names: Mapping[int, str] | None = None) -> LabelConvention:
    """The convention with these classes by value: a known one, or one that is named after them.

    Raises:
        ValueError: if 0 is no background, or a value is none of a label map.
    """
    classes = {0: BACKGROUND, **classes}
    if classes[0] != BACKGROUND or not all(0 <= value < MAX_LABEL_VALUES for value in classes):
        raise ValueError("0 is the background, and labels go to 255")
    for convention in LABEL_CONVENTIONS.values():
        if convention.classes == classes:
            return convention
    words = {index: word for word, index in reversed(CLASS_WORDS.items())}
    text = ",".join(f"{value}={words[index]}" for value, index in sorted(classes.items()) if value)
    return LabelConvention(text, f"as stated, {text.replace('=', ' is ').replace(',', ', ')}", classes, names or {})


@dataclass(frozen=True)
class LabelSummary:
    """What one label map holds.

    Args:
        voxels: number of voxels by value in the file.
        digest: equal for equal tumours whatever the file's name, packing, type or value for enhancing tumour;
            None without tumour.
    """

    voxels: Mapping[float, int] = field(hash=False)
    digest: str | None


def summarise_labels(label_map: NDArray[Any], file: Path) -> LabelSummary:
    """Count the values of a label map of any shape and type; those within `LABEL_TOLERANCE` of whole ones as these.

    Args:
        file: where it was read, for the message.
    Raises:
        DatasetError: if it holds so many different values that it must be an image.
    """
    if label_map.dtype.kind == "f":
        whole = np.rint(label_map)
        label_map = np.where(np.abs(whole - label_map) <= LABEL_TOLERANCE, whole, label_map)
    with np.errstate(invalid="ignore"):
        small = label_map.astype(np.uint8)
    if not np.array_equal(small, label_map):
        values, counts = np.unique(label_map, return_counts=True)
        if len(values) > MAX_LABEL_VALUES:
            raise DatasetError(f"{file}: holds {len(values)} different values: an image, not a label map.")
        return LabelSummary(dict(zip(values.tolist(), counts.tolist(), strict=True)), None)
    counts = np.bincount(small.ravel(order="K"))
    voxels: dict[float, int] = {value: int(count) for value, count in enumerate(counts) if count}
    small[small == ENHANCING_IN_FILES_TO_2022] = ENHANCING_IN_FILES_FROM_2023
    return LabelSummary(voxels, digest_of(small) if set(voxels) - {0} else None)


class MaskContent(Enum):
    """What a file holds that may be a tumour segmentation by its name."""

    classes = "several labels of a tumour"
    one = "one label or none"
    other = "anything else"


LARGEST_TUMOUR_ML = 600
"""More than any tumour has: the largest of the 368 whole tumours of BraTS 2020 measures less than 400 ml."""


def mask_content(file: Path) -> MaskContent:
    """Read a file that may be a mask of the brain, of tissues, of lesions or of a tumour.

    One that cannot be read counts as a tumour's, so that whoever uses it says what is wrong with it.
    """
    try:
        image = load_image(file)
        label_map = read_voxels(image)
    except DatasetError:
        return MaskContent.classes
    try:
        voxels = summarise_labels(label_map, file).voxels
    except DatasetError:
        return MaskContent.other
    labels = set(voxels) - {0}
    volume_ml = sum(voxels[label] for label in labels) * voxel_ml(image.header.get_zooms()[:3])
    if not labels <= LABELS_IN_USE or volume_ml > LARGEST_TUMOUR_ML:
        return MaskContent.other
    return MaskContent.classes if len(labels) > 1 else MaskContent.one
