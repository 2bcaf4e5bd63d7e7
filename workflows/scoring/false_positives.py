"""False positives, the weakness that the study names, and the tumour outside its slice window."""

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
        false_ml: tumour predicted outside the reference's, on any slice.
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
    turn = nib.io_orientation(affine)  # to left–right, front–back and bottom–top, the last growing upwards
    predicted, true = (nib.apply_orientation(labels != BACKGROUND, turn) for labels in (prediction, reference))
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
    """All cases together: shares of all slices without tumour and of all true tumour, means of ml, counts of patients.

    A share of nothing is 0.
    """

    def total(name: str) -> float:
        return float(sum(getattr(case, name) for case in cases))

    def share(part: str, whole: float) -> float:
        return total(part) / whole if whole else 0.0

    return {
        "false_slice_share": share("false_slices", total("slices_without_tumour")),
        "invented_ml": share("invented_ml", len(cases)),
        "false_ml": share("false_ml", len(cases)),
        "patients_without_tumour": total("patient_without_tumour"),
        "false_alarms": total("false_alarm"),
        "outside_window_share": share("outside_window_ml", total("tumour_ml")),
    }
