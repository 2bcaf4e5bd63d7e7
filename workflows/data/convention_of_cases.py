"""Which label convention a data set follows, decided once for all its cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from transforms.labels import ENHANCING_IN_FILES_FROM_2023, ENHANCING_IN_FILES_TO_2022
from workflows.data.case import Case
from workflows.data.file_names import NAMED_AS_FROM_2023
from workflows.data.label_conventions import (
    BRATS_FROM_2023,
    BRATS_TO_2022,
    LabelConvention,
    LabelSummary,
    summarise_labels,
)
from workflows.data.nifti_files import load_image, read_voxels
from workflows.machine.processes import allowed_processors
from workflows.messages.errors import DatasetError
from workflows.messages.progress import track


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
    named_as_from_2023 = all(any(NAMED_AS_FROM_2023.search(f.name) for f in case.images.values()) for case in values)
    return BRATS_FROM_2023 if with_3 or named_as_from_2023 else BRATS_TO_2022


def survey_labels(cases: Iterable[Case], workers: int | None = None) -> dict[Case, LabelSummary]:
    """Read the label map of every labelled case, with progress.

    Threads are enough: unpacking and counting release Python's lock.
    """
    labelled = [case for case in cases if case.segmentation]
    with ThreadPoolExecutor(workers or allowed_processors()) as pool:
        summaries = pool.map(_summarise_case, labelled)
        return dict(zip(labelled, track(summaries, "reading label maps", len(labelled)), strict=True))


def _summarise_case(case: Case) -> LabelSummary:
    assert case.segmentation is not None
    return summarise_labels(read_voxels(load_image(case.segmentation)), case.segmentation)
