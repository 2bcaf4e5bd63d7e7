"""Volumes for a page: turned to the patient's axes, never resampled, packed small and without loss where integers."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.background import find_background
from transforms.geometry import same_place
from workflows.image_files.brain import grey_limits
from workflows.image_files.nifti_files import read_voxels
from workflows.pictures.case_scene import brain_box

BRAIN_MARGIN_MM = 6.0
LEVELS = 2**16 - 1
COMPRESSION = 6


@dataclass(frozen=True)
class Grid:
    """Voxels turned to the axes closest to the patient's right, anterior and superior ("RAS"), and where they lie.

    Attributes:
        affine: from those voxels to RAS millimetres.
        turn: nibabel's orientation of the file's axes, (3, 2): patient's axis, and 1 or -1 for against it.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    turn: NDArray[np.float64]

    @classmethod
    def of(cls, image: nib.Nifti1Image) -> Grid:
        """Where the first three axes of an image lie."""
        turn = nib.orientations.io_orientation(image.affine)
        shape = image.shape[:3]
        x, y, z = (int(shape[axis]) for axis in np.argsort(turn[:, 0]))
        return cls((x, y, z), image.affine @ nib.orientations.inv_ornt_aff(turn, shape), turn)

    def of_file(self, image: nib.Nifti1Image) -> nib.Nifti1Image:
        """Another image whose voxels are in the order of the file's, with the affine of that."""
        way = nib.orientations.inv_ornt_aff(self.turn, image.shape[:3])
        return nib.Nifti1Image(image.dataobj, self.affine @ np.linalg.inv(way), image.header)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel to the right, to the front and upwards."""
        x, y, z = (float(size) for size in nib.affines.voxel_sizes(self.affine))
        return x, y, z

    @property
    def tilt_degrees(self) -> float:
        """Largest angle between an axis of the volume and the patient's axis after which it is named."""
        directions = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return float(np.degrees(np.arccos(np.clip(np.diag(directions).min(), -1, 1))))

    def turned(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """An array along the file's axes, along this grid's; further axes stay last."""
        return np.asarray(nib.orientations.apply_orientation(voxels, self.turn))

    def agrees(self, other: Grid) -> bool:
        """Whether voxels with equal indices are at the same place."""
        return self.shape == other.shape and same_place(self.affine, other.affine)

    def for_page(self) -> dict[str, Any]:
        """What the viewer needs to count and to measure. `fileAxes`: for each of this grid's axes, the file's."""
        file_axes = np.argsort(self.turn[:, 0]).tolist()
        return {
            "shape": self.shape,
            "spacing": self.spacing_mm,
            "affine": self.affine.tolist(),
            "fileAxes": [{"axis": axis, "flipped": bool(self.turn[axis, 1] < 0)} for axis in file_axes],
        }


def pack_image(image: nib.Nifti1Image, grid: Grid) -> tuple[dict[str, Any], NDArray[Any]]:
    """One modality as 16-bit levels, and its voxels along the grid's axes.

    Integers that span less than 2¹⁶ are kept exactly, and so are scaled ones; other values are rounded to the nearest
    of 2¹⁶ levels between their extremes. What is not finite becomes 0; broken voxels are cut to what an image may hold.

    Returns:
        "data" as `pack_levels` gives it, "low" and "step": an intensity is low + step × level; "window": the
        intensities shown black and white at first; "exact": whether nothing was rounded.
    """
    voxels = grid.turned(read_voxels(image))
    if voxels.dtype.kind == "f":
        voxels = np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0)
    background = find_background(voxels)
    window = grey_limits(voxels[background.brain_in(voxels)][::7])
    shown = voxels if background.is_one_value else np.clip(voxels, background.above, background.below)
    low, high = float(shown.min()), float(shown.max())
    step, exact = _step(shown, low, high, getattr(image.dataobj, "slope", None))
    levels = np.rint((shown - low) / step).astype(np.uint16)
    packed = {"data": pack_levels(levels), "low": low, "step": step, "exact": exact, "window": list(window)}
    return packed, voxels


def _step(voxels: NDArray[Any], low: float, high: float, slope: float | None) -> tuple[float, bool]:
    """Distance of two levels, and whether every value lies on one."""
    span = high - low
    for step in (1.0, slope):
        if step and abs(step) > 0 and span / abs(step) <= LEVELS:
            levels = (voxels - low) / abs(step)
            if voxels.dtype.kind in "iu" or np.allclose(levels, np.rint(levels), rtol=0, atol=1e-6):
                return abs(step), True
    return (span / LEVELS or 1.0), False


def pack_levels(levels: NDArray[np.uint16]) -> str:
    """16-bit levels as base64 of a zlib stream.

    Each is predicted from its neighbours to the left, behind and behind left, as PNG's filters do; only what the
    prediction misses is kept, low bytes first, then high bytes.
    """
    rows = np.ascontiguousarray(levels.T)  # (z, y, x)
    rest = rows.copy()
    rest[..., 1:] -= rows[..., :-1]
    rest[:, 1:] -= rows[:, :-1]
    rest[:, 1:, 1:] += rows[:, :-1, :-1]
    signed = rest.view(np.int16)
    folded = ((signed << 1) ^ (signed >> 15)).view(np.uint16).ravel()  # near 0 is small, whatever the sign
    return _packed((folded & 0xFF).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes())


def pack_labels(labels: NDArray[Any]) -> str:
    """Class indices, or a mask, as base64 of a zlib stream of bytes, x fastest."""
    return _packed(labels.astype(np.uint8).tobytes(order="F"))


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, COMPRESSION)).decode("ascii")


def extent_of_brain(brain: NDArray[np.bool_], grid: Grid) -> list[list[int]]:
    """First and last voxel along each axis of the box around a brain, with a margin; the whole volume without one."""
    box = brain_box(brain, [round(BRAIN_MARGIN_MM / spacing) for spacing in grid.spacing_mm])
    return [[part.start, part.stop - 1] for part in box]
