"""Where the voxels of a volume lie, without torch: what light modules and transforms say of affines alike."""

from __future__ import annotations

from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

AXIS_TOLERANCE_MM = 1e-3
"""Between the steps from one voxel to the next along an axis: programs round what they write."""
ORIGIN_TOLERANCE = 0.1
"""Of a voxel's shortest edge, between two origins."""


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
    edge_mm = float(nib.affines.voxel_sizes(one).min())
    same_axes = np.allclose(one[:3, :3], two[:3, :3], atol=AXIS_TOLERANCE_MM, rtol=0)
    return bool(same_axes and np.allclose(one[:3, 3], two[:3, 3], atol=ORIGIN_TOLERANCE * edge_mm, rtol=0))
