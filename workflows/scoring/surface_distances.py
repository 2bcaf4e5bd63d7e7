"""How far the surfaces of two masks lie apart: the 95 % Hausdorff distance (HD95), as BraTS takes it or as MONAI does,
and the share of the surfaces that lies within a tolerance (surface Dice).

BraTS's organisers take HD95 from DeepMind's `surface-distance` (Nikolov et al. 2018, arXiv:1809.04430): the surface
passes through the corners where voxels meet, and each corner counts with the area of the surface around it. The same
figures come out here, faster: distances are looked up in a KD-tree, exactly only where they decide the percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from transforms.boxes import bounding_box

Mask = NDArray[np.bool_]
Figures = NDArray[np.float64]
Spacing = tuple[float, float, float]
Definition = Literal["brats", "monai"]

PERCENT = 95.0
INSIDE = 255  # the code of a corner whose eight voxels all belong to the mask
CELL_SIZE = 4  # edge of the cells of corners that are bounded together, in voxels
FEW_CORNERS = 4096  # up to here each distance is looked up


def hd95_mm(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], definition: Definition = "brats") -> float:
    """95 % Hausdorff distance of two masks (H, W, D), neither of them empty.

    Args:
        definition: "brats" weighs the surface by area; "monai" counts surface voxels, as
            `monai.metrics.compute_hausdorff_distance(percentile=95)` does.
    Raises:
        ValueError: if a mask is empty, or the definition is unknown.
    """
    if not prediction.any() or not reference.any():
        raise ValueError("HD95 needs two masks that are not empty; the rules for empty ones are the caller's.")
    x, y, z = (float(edge) for edge in spacing_mm)
    spacing = (x, y, z)
    if definition == "brats":
        return hausdorff_mm(Surface(prediction, spacing), Surface(reference, spacing))
    if definition == "monai":
        return _monai_hd95_mm(prediction, reference, spacing)
    raise ValueError(f"no HD95 named {definition!r}; there are brats and monai.")


class Surface:
    """The corners at which voxels of a mask meet voxels outside it, each with the area of the surface around it.

    The mask (H, W, D) is not empty; what lies beyond the array counts as outside.

    Attributes:
        corners: (N, 3) int32; the corner (i, j, k) is shared by the voxels i - 1 and i, j - 1 and j, k - 1 and k.
    """

    def __init__(self, mask: Mask, spacing_mm: Spacing) -> None:
        box = bounding_box(mask)
        codes = _corner_codes(mask[box])
        places = np.flatnonzero((codes != 0) & (codes != INSIDE))
        offset = np.array([part.start for part in box], np.int32)
        self.spacing_mm = np.array(spacing_mm)
        self.corners = np.stack(np.unravel_index(places, codes.shape), axis=1).astype(np.int32) + offset
        self.areas_mm2 = corner_areas_mm2(spacing_mm)[codes.ravel()[places]]

    @cached_property
    def tree(self) -> KDTree:
        """Finds the nearest corner of a place in mm."""
        return KDTree(self.corners * self.spacing_mm, balanced_tree=False, compact_nodes=False)

    def distances_mm(self, corners: NDArray[np.int32]) -> Figures:
        """From each of `corners` (N, 3) to the nearest of this surface's, (N,)."""
        _, nearest = self.tree.query(corners * self.spacing_mm)
        apart = (corners - self.corners[nearest]) * self.spacing_mm  # whole steps first: equal distances stay equal
        return np.asarray(np.sqrt((apart * apart).sum(axis=1)))


def hausdorff_mm(one: Surface, other: Surface, percent: float = PERCENT) -> float:
    """The larger of the two directed distances within which `percent` of a surface's area lies of the other surface."""
    share = percent / 100
    pairs = [(source, target, _bounds(source, target, share)) for source, target in ((one, other), (other, one))]
    first, second = sorted(pairs, key=lambda pair: pair[2].lowest, reverse=True)
    larger = _directed_mm(*first, share)
    return larger if second[2].highest <= larger else max(larger, _directed_mm(*second, share))


@dataclass(frozen=True, eq=False)
class _Bounds:
    """What cells of corners say about a directed percentile before any corner is measured.

    Attributes:
        lowest, highest: what it lies between, in mm.
        below_mm2: area that certainly lies nearer; undecided: (N,) the corners that may decide it.
    """

    lowest: float
    highest: float
    below_mm2: float
    undecided: Mask


def _bounds(source: Surface, target: Surface, share: float) -> _Bounds:
    """A corner lies within half a diagonal of its cell's centre, so its distance differs by at most that."""
    if len(source.corners) <= FEW_CORNERS:
        return _Bounds(0.0, np.inf, 0.0, np.ones(len(source.corners), bool))
    cells = source.corners // CELL_SIZE
    numbers = np.ravel_multi_index(tuple(cells.T), tuple(cells.max(axis=0) + 1))
    _, first, member = np.unique(numbers, return_index=True, return_inverse=True)
    centres = cells[first] * CELL_SIZE + (CELL_SIZE - 1) / 2
    middle, _ = target.tree.query(centres * source.spacing_mm)
    radius = np.linalg.norm((CELL_SIZE - 1) / 2 * source.spacing_mm) * (1 + 1e-9)  # room for rounding
    areas = np.bincount(member, source.areas_mm2).astype(np.float64, copy=False)
    lowest = _weighted_percentile(middle - radius, areas, share)
    highest = _weighted_percentile(middle + radius, areas, share)
    nearer, farther = middle + radius < lowest, middle - radius > highest
    return _Bounds(lowest, highest, float(areas[nearer].sum()), ~(nearer | farther)[member])


def _directed_mm(source: Surface, target: Surface, bounds: _Bounds, share: float) -> float:
    """The smallest distance to `target` within which at least `share` of the area of `source` lies."""
    distances = target.distances_mm(source.corners[bounds.undecided])
    areas = source.areas_mm2[bounds.undecided]
    return _weighted_percentile(distances, areas, share, bounds.below_mm2, float(source.areas_mm2.sum()))


def surface_dice(one: Surface, other: Surface, tolerance_mm: float) -> float:
    """The share of the area of both surfaces that lies within a tolerance of the other surface, from 0 to 1.

    As `compute_surface_dice_at_tolerance` of DeepMind's `surface-distance` (Nikolov et al. 2018, arXiv:1809.04430).
    """
    beyond_mm2 = _beyond_mm2(one, other, tolerance_mm) + _beyond_mm2(other, one, tolerance_mm)
    return 1 - beyond_mm2 / float(one.areas_mm2.sum() + other.areas_mm2.sum())


def _beyond_mm2(source: Surface, target: Surface, tolerance_mm: float) -> float:
    """The area of `source` farther than the tolerance from `target`."""
    within_mm = tolerance_mm + 1e-9  # room for rounding; the tree looks no farther
    distances_mm, _ = target.tree.query(source.corners * source.spacing_mm, distance_upper_bound=within_mm)
    return float(source.areas_mm2[np.isinf(distances_mm)].sum())


def _weighted_percentile(
    values: Figures, weights: Figures, share: float, below: float = 0.0, total: float | None = None
) -> float:
    """The smallest value at which `below` and the weights up to it reach `share` of `total`."""
    order = np.lexsort((weights, values))
    reached = (below + np.cumsum(weights[order])) / (weights.sum() if total is None else total)
    return float(values[order[min(int(np.searchsorted(reached, share)), len(order) - 1)]])


def _corner_codes(mask: Mask) -> NDArray[np.uint8]:
    """(H, W, D) → (H + 1, W + 1, D + 1): one bit per voxel around a corner, that of the lowest indices first."""
    voxels = np.pad(mask, 1).astype(np.uint8)
    pairs = voxels[:-1] << 4 | voxels[1:]
    squares = pairs[:, :-1] << 2 | pairs[:, 1:]
    cubes = squares[:, :, :-1] << 1 | squares[:, :, 1:]
    return cubes.astype(np.uint8, copy=False)


@cache
def corner_areas_mm2(spacing_mm: Spacing) -> Figures:
    """Area of the surface around a corner, by its code, (256,)."""
    normals, codes = _corner_triangles()
    x, y, z = spacing_mm
    triangle_areas = np.linalg.norm(normals * (y * z, x * z, x * y), axis=1)
    return np.bincount(codes, triangle_areas, minlength=INSIDE + 1).astype(np.float64, copy=False)


@cache
def _corner_triangles() -> tuple[Figures, NDArray[np.int64]]:
    """Marching cubes' triangles at unit spacing: their normals, as long as their areas, (N, 3), and their codes, (N,).

    A code of more than four voxels has the surface of its complement. The 256 codes stand in a row along the first
    axis; triangles between two neighbours of the row are dropped.
    """
    from skimage.measure import marching_cubes

    voxels = np.unpackbits(np.arange(INSIDE + 1, dtype=np.uint8)[:, None], axis=1)  # (256, 8)
    fewer = np.where(voxels.sum(axis=1, keepdims=True) > 4, 1 - voxels, voxels)
    row = fewer.reshape(-1, 2, 2)
    vertices, faces, _, _ = marching_cubes(row.astype(np.float32), 0.5, method="lorensen")
    first, second, third = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    place = np.floor((first + second + third)[:, 0] / 3).astype(np.int64)
    own = place % 2 == 0
    return (np.cross(second - first, third - first) / 2)[own], place[own] // 2


def _monai_hd95_mm(prediction: Mask, reference: Mask, spacing_mm: Spacing) -> float:
    import torch
    from monai.metrics import compute_hausdorff_distance

    box = bounding_box(prediction | reference)  # MONAI's own cropping is slower
    one, other = (torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (prediction, reference))
    return float(
        compute_hausdorff_distance(one, other, include_background=True, percentile=PERCENT, spacing=list(spacing_mm))
    )
