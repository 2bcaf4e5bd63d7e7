"""The numbers of cases and data sets as lines and tables, and what windows of axial slices keep of the tumours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from transforms.labels import CLASS_NAMES
from transforms.windows import STUDY_WINDOW
from workflows.data.label_conventions import LabelConvention
from workflows.explore.survey import CaseSurvey, DatasetSurvey
from workflows.image_files.nifti_files import format_shape
from workflows.messages.text_tables import TextTable


def case_lines(case: CaseSurvey, convention: LabelConvention) -> list[str]:
    """Shape, label values and voxel counts of a case."""
    lines = [f"shape {format_shape(case.shape)}, {_spacing(case)} mm, {case.orientation}"]
    if not case.labelled:
        return [*lines, "no segmentation"]
    lines.append("label values " + ", ".join(f"{value:g}" for value in sorted(case.label_voxels)))
    for value, count in sorted(case.label_voxels.items()):
        lines.append(f"  {value:g} {value_name(value, convention)}: {count} voxels")
    return lines


def value_name(value: float, convention: LabelConvention) -> str:
    """The class that a label value stands for."""
    index = convention.class_of(value)
    return CLASS_NAMES[index] if index is not None else "no class of this data set"


def dataset_lines(survey: DatasetSurvey) -> list[str]:
    """Cases, label values and what is empty, in a few lines."""
    lines = [f"{len(survey.cases)} cases, {len(survey.labelled)} with labels ({survey.convention.title})"]
    for value, cases in survey.label_values().items():
        total = sum(int(case.label_voxels.get(value, 0)) for case in survey.labelled)
        name = value_name(value, survey.convention)
        lines.append(f"  {value:g} {name}: {total} voxels, in {len(cases)} of {len(survey.labelled)} cases")
    for index, cases in survey.empty_classes().items():
        if cases:
            lines.append(f"no {CLASS_NAMES[index]}: {', '.join(cases)}")
    return lines + [f"cannot be read: {case.problem}" for case in survey.unreadable]


def windows_table(survey: DatasetSurvey, chosen: tuple[int, int]) -> TextTable:
    """What windows of slices keep: of each class's whole volume, and of the cases."""
    rows = []
    for name, window in windows_to_compare(survey, chosen).items():
        kept = survey.shares_kept(window)
        shares = [share_of_class(survey, index, window) for index in (None, *range(1, len(CLASS_NAMES)))]
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        cases = [f"{sum(kept) / len(kept):.1%}", f"{min(kept):.1%}"] if kept else ["", ""]
        rows.append([name, f"{window[0]}–{window[1] - 1}", str(window[1] - window[0]), *cells, *cases])
    head = ["window", "slices of 1 mm", "number", "whole tumour", *CLASS_NAMES[1:], "mean of cases", "worst case"]
    return TextTable("Which window keeps what share of each class, all cases together", head, rows)


def cases_table(survey: DatasetSurvey) -> TextTable:
    """Geometry and voxels by label value of every case."""
    values = list(survey.label_values()) if survey.labelled else []
    head = ["case", "shape", "spacing mm", "orientation"]
    head += [f"{value:g} {value_name(value, survey.convention)}" for value in values]
    rows = []
    for case in survey.cases:
        counts = [str(case.label_voxels.get(value, 0)) if case.labelled else "" for value in values]
        rows.append([case.id, format_shape(case.shape), _spacing(case), case.orientation, *counts])
    return TextTable("Voxels of every case", head, rows)


def _spacing(case: CaseSurvey) -> str:
    return format_shape(f"{round(size, 4):g}" for size in case.spacing_mm)


def named_windows(chosen: Sequence[int]) -> dict[str, tuple[int, int]]:
    """The study's window of 1 mm slices, and the one chosen if it is another, by name."""
    windows = {"the study's": STUDY_WINDOW}
    if tuple(chosen) != STUDY_WINDOW:
        windows["the one chosen"] = (chosen[0], chosen[1])
    return windows


def windows_to_compare(survey: DatasetSurvey, chosen: Sequence[int]) -> dict[str, tuple[int, int]]:
    """`named_windows`, and the narrowest windows that keep a share."""
    area = survey.area_per_mm().sum(axis=0)
    shares = (0.9, 0.95, 0.99, 1.0) if area.any() else ()
    narrowest = {f"the narrowest with {share:.0%} of all tumour": narrowest_window(area, share) for share in shares}
    return named_windows(chosen) | narrowest


def narrowest_window(area: NDArray[np.float64], share: float) -> tuple[int, int]:
    """First index and the one after the last of the shortest run with `share` of the sum; of several the lowest."""
    below = np.concatenate([[0.0], np.cumsum(area)])
    wanted = share * below[-1] - 1e-9 * below[-1]
    ends = np.searchsorted(below, below[:-1] + wanted)  # for every first, the first end that suffices
    reached = np.flatnonzero(ends < len(below))
    first = reached[np.argmin(ends[reached] - reached)]
    return int(first), int(ends[first])


def share_of_class(survey: DatasetSurvey, index: int | None, slice_range: Sequence[int]) -> float | None:
    """Share 0 to 1 of a class's volume in all cases that a window of 1 mm slices keeps; None if there is none.

    `index` is that of the class, or None for the whole tumour.
    """
    kept = total = 0.0
    for case in survey.labelled:
        values = [value for value in case.slice_voxels if index in (None, survey.convention.classes.get(value))]
        in_window, everywhere = case.kept_voxels(slice_range, values)
        kept, total = kept + in_window * case.voxel_ml, total + everywhere * case.voxel_ml
    return kept / total if total else None
