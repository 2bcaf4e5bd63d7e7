"""Where the voxels of a volume lie, without torch: what light modules and transforms say of affines alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

AXIS_TOLERANCE_MM = 1e-3
"""Between the steps from one voxel to the next along an axis: programs round what they write."""
SAME_VOXEL = 0.1
"""Of a voxel: centres that differ by less are the same voxel's."""
SAVE_AGAIN = "save it in 3D Slicer with the geometry of the images"


class AxialAxis(NamedTuple):
    """The axis of an array that runs between bottom and top, whether upwards, and the distance of its slices."""

    axis: int
    upwards: bool
    spacing_mm: float


def axial_axis(affine: ArrayLike) -> AxialAxis:
    """The axis closest to the patient's inferior–superior one.

    Args:
        affine: (4, 4), voxel to mm, of full rank.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    axes = nib.orientations.io_orientation(matrix)
    axial = int(np.flatnonzero(axes[:, 0] == 2)[0])
    return AxialAxis(axial, bool(axes[axial, 1] > 0), float(nib.affines.voxel_sizes(matrix)[axial]))


def voxel_ml(voxel: ArrayLike) -> float:
    """Volume of one voxel, from an affine (4, 4) in mm or the lengths of its edges (3,) in mm."""
    matrix = np.asarray(voxel, dtype=np.float64)
    return float(abs(np.linalg.det(matrix[:3, :3])) if matrix.ndim == 2 else matrix.prod()) / 1000


def same_place(affine: ArrayLike, other: ArrayLike) -> bool:
    """Whether two affines (4, 4) put voxels of equal indices at the same place, to a tenth of a voxel."""
    one, two = np.asarray(affine, dtype=np.float64), np.asarray(other, dtype=np.float64)
    same_axes = np.allclose(one[:3, :3], two[:3, :3], atol=AXIS_TOLERANCE_MM, rtol=0)
    apart = one[:3, :3].T @ (two - one)[:3, 3]  # along each axis, times the edge there
    return bool(same_axes and (np.abs(apart) <= SAME_VOXEL * nib.affines.voxel_sizes(one) ** 2).all())


def is_identity(affine: ArrayLike) -> bool:
    """Whether an affine (4, 4) is what programs write that do not know where the voxels lie; ITK's axes are LPS."""
    return any(np.array_equal(np.asarray(affine), np.diag([sign, sign, 1, 1])) for sign in (1, -1))


def placed(voxels: NDArray[Any], affine: ArrayLike, shape: Sequence[int], onto: ArrayLike) -> NDArray[Any]:
    """The voxels of a label map on another grid of the same voxels, which may be larger, smaller or turned.

    Args:
        affine, onto: (4, 4), of the voxels and of the grid.
        shape: of the grid.
    Raises:
        ValueError: if the grid has other voxels, or labelled ones lie outside of it.
    """
    if not voxels.any():
        return np.zeros(shape, voxels.dtype)
    way = np.linalg.inv(np.asarray(onto)) @ np.asarray(affine)
    turn = nib.orientations.io_orientation(way)
    way = way @ nib.orientations.inv_ornt_aff(turn, voxels.shape)
    turned = nib.orientations.apply_orientation(voxels, turn)
    first = np.rint(way[:3, 3]).astype(int)
    for corner in np.ndindex(2, 2, 2):
        index = corner * (np.array(turned.shape) - 1)
        if np.abs(nib.affines.apply_affine(way, index) - index - first).max() > SAME_VOXEL:
            raise ValueError(f"its voxels are not those of the images; {SAVE_AGAIN}")
    low, high = np.maximum(first, 0), np.maximum(np.minimum(first + turned.shape, shape), 0)
    kept = turned[*(slice(a, max(a, b)) for a, b in zip(low - first, high - first, strict=True))]
    if outside := np.count_nonzero(turned) - np.count_nonzero(kept):
        raise ValueError(f"{outside} labelled voxels lie outside the images; {SAVE_AGAIN}")
    result = np.zeros(shape, voxels.dtype)
    result[*(slice(a, b) for a, b in zip(low, high, strict=True))] = kept
    return result
