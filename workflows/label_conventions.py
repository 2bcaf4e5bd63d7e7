"""What the numbers in label files mean, which differs between the years of BraTS and from Decathlon."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
from workflows.errors import DatasetError
from workflows.nifti_files import digest_of, load_image, read_voxels
from workflows.progress import track

if TYPE_CHECKING:
    from workflows.dataset import Case

MAX_LABEL_VALUES = 256

_NAMED_AS_FROM_2023 = re.compile(r"-(?:t1n|t1c|t2w|t2f)\.nii", re.IGNORECASE)


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


# ---------------------------------------------------------------------------------------------------------------------
# Which convention a data set follows


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


def decide_label_convention(cases: Iterable[Case], workers: int | None = None) -> LabelConvention:
    """Decide once for a data set whether enhancing tumour is 4 or 3, from its label maps.

    Raises:
        DatasetError: if both occur, or a label map cannot be read.
    """
    cases = tuple(cases)
    if all(case.convention for case in cases):
        return label_convention_of(dict.fromkeys(cases, ()))
    summaries = survey_labels(cases, workers)
    return label_convention_of({case: tuple(summaries[case].voxels) if case in summaries else () for case in cases})


def label_convention_of(values: Mapping[Case, Iterable[float]]) -> LabelConvention:
    """As `decide_label_convention`, from the label values found per case."""
    stated = {case.convention: case for case in values if case.convention}
    unstated = [case for case in values if not case.convention]
    if len(stated) > 1 or (stated and unstated):
        one, other = [*stated.values(), *unstated][:2]
        raise DatasetError(
            f"The data folder mixes label conventions: {one.folder} and {other.folder}; use one data set at a time."
        )
    if stated:
        return next(iter(stated))
    with_4 = [case for case, found in values.items() if ENHANCING_IN_FILES_TO_2022 in found]
    with_3 = [case for case, found in values.items() if ENHANCING_IN_FILES_FROM_2023 in found]
    if with_4 and with_3:
        raise DatasetError(
            f"Enhancing tumour must be one label in a data set, but {with_4[0].id} holds 4 (BraTS up to 2022) "
            f"and {with_3[0].id} holds 3 (BraTS from 2023 on); use one data set at a time."
        )
    if with_4:
        return BRATS_TO_2022
    return BRATS_FROM_2023 if with_3 or all(map(_named_as_from_2023, values)) else BRATS_TO_2022


def survey_labels(cases: Iterable[Case], workers: int | None = None) -> dict[Case, LabelSummary]:
    """Read the label map of every labelled case, with progress.

    Threads are enough: unpacking and counting release Python's lock.
    """
    labelled = [case for case in cases if case.segmentation]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        summaries = pool.map(_summarise_case, labelled)
        return dict(zip(labelled, track(summaries, "reading label maps", len(labelled)), strict=True))


def summarise_labels(label_map: NDArray, file: Path) -> LabelSummary:
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


def _summarise_case(case: Case) -> LabelSummary:
    assert case.segmentation is not None
    return summarise_labels(read_voxels(load_image(case.segmentation)), case.segmentation)


def _named_as_from_2023(case: Case) -> bool:
    return any(_NAMED_AS_FROM_2023.search(file.name) for file in case.images.values())
