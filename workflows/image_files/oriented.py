"""Volumes in one orientation, whatever the one of the file, and how to cut a slice that stands right way up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.planes import AXIAL, AXIS, CORONAL, SAGITTAL
from workflows.image_files.nifti_files import load_image, read_voxels


class Plane(StrEnum):
    """An anatomical plane."""

    axial = AXIAL
    coronal = CORONAL
    sagittal = SAGITTAL

    @property
    def axis(self) -> int:
        """The axis of an `OrientedVolume` that this plane cuts."""
        return AXIS[self.value] + 3

    @property
    def sides(self) -> tuple[int, int]:
        """The axes of an `OrientedVolume` along the rows and along the columns of a picture by `upright`."""
        across, along = (axis for axis in range(3) if axis != self.axis)
        return across, along

    @property
    def edges(self) -> tuple[str, str, str, str]:
        """What lies at the left, right, top and bottom edge of a picture by `upright`."""
        letters = {AXIAL: ("R", "L", "A", "P"), CORONAL: ("R", "L", "S", "I"), SAGITTAL: ("A", "P", "S", "I")}
        return letters[self.value]


@dataclass(frozen=True)
class OrientedVolume:
    """Voxels with axes growing to the patient's left, posterior and superior.

    Args:
        spacing_mm: along these axes.
    """

    voxels: NDArray[Any]
    spacing_mm: tuple[float, float, float]


def oriented(image: nib.Nifti1Image) -> OrientedVolume:
    """The voxels of a 3D image, its axes flipped and permuted but not interpolated."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(("L", "P", "S"))
    )
    turned = image.as_reoriented(turn)
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(turned.affine))
    return OrientedVolume(read_voxels(turned), (x, y, z))


def turned_like(image: nib.Nifti1Image, other: nib.Nifti1Image) -> nib.Nifti1Image:
    """The image with its axes flipped and permuted to run as those of another; itself where they do already."""
    here, there = (nib.orientations.io_orientation(each.affine) for each in (image, other))
    if np.array_equal(here, there):
        return image
    turned: nib.Nifti1Image = image.as_reoriented(nib.orientations.ornt_transform(here, there))
    return turned


def read_oriented(file: Path) -> OrientedVolume:
    """Read one file, or `file#channel` of a 4D file.

    Raises:
        DatasetError: if the file is missing or no volume.
    """
    return oriented(load_image(file))


def as_classes(label_map: NDArray[Any], classes: Mapping[int, int]) -> NDArray[np.uint8]:
    """Class indices from the values in a file; a value that `classes` does not name stays as it is."""
    values = np.rint(label_map).astype(np.uint8)
    return np.asarray(np.array([classes.get(value, value) for value in range(256)], dtype=np.uint8)[values])


def upright(volume: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """One slice as rows from top to bottom and columns from left to right, as radiologists look at it.

    The patient's right is on the left of an axial or coronal picture and the face on the left of a sagittal one.

    Args:
        volume: axes growing to the patient's left, posterior and superior.
        index: counted from the patient's right (sagittal), the front (coronal) or the bottom (axial), from 0.
    """
    cut = np.moveaxis(volume, plane.axis, 0)[index].T  # rows: the later of the two remaining axes
    return np.asarray(cut if plane is Plane.axial else cut[::-1])


def pixel_aspect(spacing_mm: Sequence[float], plane: Plane) -> float:
    """Height over width of a pixel of `upright`."""
    across, along = plane.sides
    return spacing_mm[along] / spacing_mm[across]
