"""Tumour that was invented, and tumour that the window never sees, counted by hand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from workflows.scoring.false_positives import FalsePositives, false_positives, pooled

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])  # voxels of 1×1×2 mm: 0.002 ml
SHAPE = (4, 5, 6)
WINDOW = (4, 8)  # mm from the bottom: the slices 2 and 3


def volumes() -> tuple[np.ndarray, np.ndarray]:
    """The reference: 3 voxels in slice 1, 2 in slice 2. The prediction: 1 of them, 1 beside it, 4 in slice 5."""
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[0, 0:3, 1], reference[1, 0:2, 2] = 2, 3
    prediction[0, 0, 1], prediction[3, 3, 2], prediction[0, 0:4, 5] = 1, 2, 3
    return prediction, reference


EXPECTED = FalsePositives(
    slices_without_tumour=4,
    false_slices=1,
    invented_ml=pytest.approx(0.008),
    false_ml=pytest.approx(0.010),
    patient_without_tumour=False,
    tumour_ml=pytest.approx(0.010),
    outside_window_ml=pytest.approx(0.006),
)


def test_slices_and_volumes_are_those_counted_by_hand():
    assert false_positives(*volumes(), AFFINE, WINDOW) == EXPECTED


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SRA", "AIL"])
def test_the_orientation_of_the_file_changes_nothing(codes: str):
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(codes))
    images = [nib.Nifti1Image(volume, AFFINE).as_reoriented(turn) for volume in volumes()]
    prediction, reference = (np.asarray(image.dataobj) for image in images)
    assert false_positives(prediction, reference, images[0].affine, WINDOW) == EXPECTED


def test_a_patient_without_tumour_is_a_false_alarm_as_soon_as_one_voxel_is_predicted():
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    quiet = false_positives(prediction, reference, AFFINE, WINDOW)
    assert (quiet.patient_without_tumour, quiet.false_alarm) == (True, False)
    prediction[0, 0, 0] = 1
    assert false_positives(prediction, reference, AFFINE, WINDOW).false_alarm


def test_a_window_beyond_the_volume_loses_nothing_and_one_above_it_everything():
    prediction, reference = volumes()
    assert false_positives(prediction, reference, AFFINE, (-5, 100)).outside_window_ml == 0
    beyond = false_positives(prediction, reference, AFFINE, (60, 135))
    assert beyond.outside_window_ml == beyond.tumour_ml


def test_shares_are_pooled_over_slices_and_volumes_averaged_over_cases():
    one = false_positives(*volumes(), AFFINE, WINDOW)
    healthy = false_positives(np.ones(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), AFFINE, WINDOW)
    assert pooled([one, healthy]) == pytest.approx(
        {
            "false_slice_share": (1 + 6) / (4 + 6),
            "invented_ml": (0.008 + 0.240) / 2,
            "false_ml": (0.010 + 0.240) / 2,
            "patients_without_tumour": 1,
            "false_alarms": 1,
            "outside_window_share": 0.6,
        }
    )


def test_nothing_predicted_on_no_case_is_a_share_of_zero():
    assert set(pooled([]).values()) == {0}
