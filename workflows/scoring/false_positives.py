"""False positives, the study's named weakness: tumour predicted where there is none, and tumour the window never sees.

Light on purpose: NumPy and nibabel only, so that cases can be scored in parallel by processes that start at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.geometry import axial_axis, voxel_ml
from transforms.labels import BACKGROUND
from transforms.windows import in_own_slices


@dataclass(frozen=True)
class FalsePositives:
    """One case, whole volume, any tumour class.

    Attributes:
        slices_without_tumour: axial slices in which the reference has no tumour.
        false_slices: how many of them hold predicted tumour.
        invented_ml: tumour predicted in them.
        false_ml: tumour predicted outside the reference's, on whatever slice.
        patient_without_tumour: the reference is empty.
        tumour_ml: the reference's tumour; outside_window_ml: how much of it lies outside the slice window.
    """

    slices_without_tumour: int
    false_slices: int
    invented_ml: float
    false_ml: float
    patient_without_tumour: bool
    tumour_ml: float
    outside_window_ml: float

    @property
    def false_alarm(self) -> bool:
        """A patient without tumour in whom some is predicted."""
        return self.patient_without_tumour and self.false_ml > 0


def false_positives(
    prediction: NDArray[Any], reference: NDArray[Any], affine: NDArray[np.float64], slice_range: Sequence[int]
) -> FalsePositives:
    """Compare two label maps slice by slice.

    Args:
        prediction, reference: (H, W, D) labels on the same grid, 0 for background, in any orientation.
        affine: (4, 4), voxel to mm; tells which axis runs from bottom to top.
        slice_range: first slice of the window and the one after the last, counted in slices of 1 mm from the bottom.
    """
    predicted, true = (_from_the_bottom(labels != BACKGROUND, affine) for labels in (prediction, reference))
    each_ml = voxel_ml(affine)
    predicted_voxels, true_voxels = (np.count_nonzero(mask, axis=(0, 1)) for mask in (predicted, true))
    without = true_voxels == 0
    invented = predicted_voxels[without]
    first, end = in_own_slices(slice_range, axial_axis(affine).spacing_mm)
    return FalsePositives(
        slices_without_tumour=int(np.count_nonzero(without)),
        false_slices=int(np.count_nonzero(invented)),
        invented_ml=int(invented.sum()) * each_ml,
        false_ml=int(np.count_nonzero(predicted & ~true)) * each_ml,
        patient_without_tumour=bool(without.all()),
        tumour_ml=int(true_voxels.sum()) * each_ml,
        outside_window_ml=int(true_voxels.sum() - true_voxels[max(first, 0) : max(end, 0)].sum()) * each_ml,
    )


def pooled(cases: Sequence[FalsePositives]) -> dict[str, float]:
    """All cases together; a share of nothing is 0.

    Returns:
        `false_slice_share`: of all slices without tumour; `invented_ml` and `false_ml`: means per case;
        `patients_without_tumour`, `false_alarms`: counts; `outside_window_share`: of all the reference's tumour.
    """
    totals = {
        name: float(sum(getattr(case, name) for case in cases))
        for name in (
            *("slices_without_tumour", "false_slices", "invented_ml", "false_ml", "tumour_ml", "outside_window_ml"),
            *("patient_without_tumour", "false_alarm"),
        )
    }
    return {
        "false_slice_share": _share(totals["false_slices"], totals["slices_without_tumour"]),
        "invented_ml": _share(totals["invented_ml"], len(cases)),
        "false_ml": _share(totals["false_ml"], len(cases)),
        "patients_without_tumour": totals["patient_without_tumour"],
        "false_alarms": totals["false_alarm"],
        "outside_window_share": _share(totals["outside_window_ml"], totals["tumour_ml"]),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _from_the_bottom(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The axes in the order left–right, front–back, bottom–top, the last growing upwards."""
    return np.asarray(nib.apply_orientation(mask, nib.io_orientation(affine)))
