"""What windows of axial slices keep of the tumours of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from transforms.windows import STUDY_WINDOW, in_own_slices
from workflows.explore.survey import DatasetSurvey


def named_windows(chosen: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Windows of 1 mm slices by what they are: the study's, and the one chosen where that is another."""
    windows = {"the study's": STUDY_WINDOW}
    if tuple(chosen) != STUDY_WINDOW:
        windows["the one chosen"] = (chosen[0], chosen[1])
    return windows


def windows_to_compare(survey: DatasetSurvey, chosen: Sequence[int]) -> dict[str, tuple[int, int]]:
    """`named_windows`, and the narrowest that keep a share."""
    area = survey.area_per_mm().sum(axis=0)
    shares = (0.9, 0.95, 0.99, 1.0) if area.any() else ()
    narrowest = {f"the narrowest with {share:.0%} of all tumour": narrowest_window(area, share) for share in shares}
    return named_windows(chosen) | narrowest


def narrowest_window(area: NDArray[np.float64], share: float) -> tuple[int, int]:
    """First index and the one after the last of the shortest run with `share` of the sum; the lowest of equals."""
    below = np.concatenate([[0.0], np.cumsum(area)])
    wanted = share * below[-1] - 1e-9 * below[-1]
    ends = np.searchsorted(below, below[:-1] + wanted)  # for every first, the first end that suffices
    reached = np.flatnonzero(ends < len(below))
    first = reached[np.argmin(ends[reached] - reached)]
    return int(first), int(ends[first])


def share_of_class(survey: DatasetSurvey, index: int | None, slice_range: Sequence[int]) -> float | None:
    """Share 0 to 1 of a class's volume in all cases that a window of 1 mm slices keeps; None if there is none.

    Args:
        index: class index, or None for the whole tumour.
    """
    kept = total = 0.0
    for case in survey.labelled:
        first, end = in_own_slices(slice_range, case.slice_mm)
        for value, voxels in case.slice_voxels.items():
            if index is None or survey.convention.classes.get(value) == index:
                kept += float(voxels[max(first, 0) : max(end, 0)].sum()) * case.voxel_ml
                total += float(voxels.sum()) * case.voxel_ml
    return kept / total if total else None
