"""What the numbers in label files mean, which differs between the years of BraTS and from Decathlon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.labels import (
    BACKGROUND,
    CLASS_NAMES,
    ENHANCING,
    ENHANCING_IN_FILES_FROM_2023,
    ENHANCING_IN_FILES_TO_2022,
    NECROTIC_CORE,
    OEDEMA,
)
from workflows.data.nifti_files import digest_of
from workflows.messages.errors import DatasetError

MAX_LABEL_VALUES = 256


@dataclass(frozen=True)
class LabelConvention:
    """What the values in the label files of one data set mean.

    Args:
        name: under which datalists refer to it.
        classes: class index by value in the file, background included.
    """

    name: str
    title: str
    classes: Mapping[int, int] = field(hash=False)

    def class_name(self, value: int) -> str:
        """The class that `value` stands for in these files."""
        return CLASS_NAMES[self.classes[value]]

    def class_of(self, value: float) -> int | None:
        """The index of the class that a value found in a file stands for; None if it stands for none."""
        return self.classes.get(int(value)) if float(value).is_integer() else None

    @property
    def values(self) -> dict[int, int]:
        """The value in the files by class index."""
        return {index: value for value, index in self.classes.items()}


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
LABEL_CONVENTIONS = {convention.name: convention for convention in (BRATS_TO_2022, BRATS_FROM_2023, DECATHLON)}


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
    """Count the values of a label map of any shape and type.

    Args:
        file: where it was read, for the message.
    Raises:
        DatasetError: if it holds so many different values that it must be an image.
    """
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
