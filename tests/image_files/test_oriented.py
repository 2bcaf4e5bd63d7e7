"""Pictures stand right way up, with the patient's right on the left, whatever the orientation of the file."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from workflows.image_files.oriented import OrientedVolume, Plane, oriented, pixel_aspect, upright

RAS_SHAPE = (6, 8, 10)
MARKS = {
    "right": (5, 4, 5),
    "left": (0, 4, 5),
    "front": (3, 7, 5),
    "back": (3, 0, 5),
    "top": (3, 4, 9),
    "bottom": (3, 4, 0),
}
VALUES = {name: number for number, name in enumerate(MARKS, start=1)}


def marked(orientation: str) -> OrientedVolume:
    """A volume with one voxel marked at each end of the patient, 1×2×3 mm along left-right, front-back, top-bottom."""
    voxels = np.zeros(RAS_SHAPE, np.int16)
    for name, place in MARKS.items():
        voxels[place] = VALUES[name]
    image = nib.Nifti1Image(voxels, np.diag([1.0, 2, 3, 1]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    return oriented(image.as_reoriented(turn))


def at(picture: np.ndarray, name: str) -> tuple[int, int]:
    ((row, column),) = np.argwhere(picture == VALUES[name])
    return int(row), int(column)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_an_axial_slice_has_the_front_above_and_the_right_on_the_left(orientation: str):
    picture = upright(marked(orientation).voxels, Plane.axial, 5)  # rows 8 from front to back, columns 6
    assert (at(picture, "front")[0], at(picture, "back")[0]) == (0, 7)
    assert (at(picture, "right")[1], at(picture, "left")[1]) == (0, 5)
    assert Plane.axial.edges == ("R", "L", "A", "P")


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_a_coronal_slice_has_the_top_above_and_the_right_on_the_left(orientation: str):
    picture = upright(marked(orientation).voxels, Plane.coronal, 3)  # the fourth from the front: 7 - 3 = 4
    assert (at(picture, "top")[0], at(picture, "bottom")[0]) == (0, 9)
    assert (at(picture, "right")[1], at(picture, "left")[1]) == (0, 5)
    assert Plane.coronal.edges == ("R", "L", "S", "I")


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_a_sagittal_slice_has_the_top_above_and_the_front_on_the_left(orientation: str):
    picture = upright(marked(orientation).voxels, Plane.sagittal, 2)  # the third from the right: 5 - 2 = 3
    assert (at(picture, "top")[0], at(picture, "bottom")[0]) == (0, 9)
    assert (at(picture, "front")[1], at(picture, "back")[1]) == (0, 7)
    assert Plane.sagittal.edges == ("A", "P", "S", "I")


@pytest.mark.parametrize("orientation", ["RAS", "PIR"])
def test_spacing_follows_the_axes(orientation: str):
    assert marked(orientation).spacing_mm == (1, 2, 3)


def test_pixels_have_their_true_height():
    spacing_mm = (1, 2, 3)
    assert [pixel_aspect(spacing_mm, plane) for plane in (Plane.axial, Plane.coronal, Plane.sagittal)] == [2, 3, 1.5]
