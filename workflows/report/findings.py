"""What a report says of a label map in numbers: volumes, lesions, diameters, and where to look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from transforms.boxes import bounding_box
from transforms.geometry import voxel_ml
from transforms.labels import BACKGROUND
from workflows.scoring.lesions import SMALLEST_SCORED_MM3, TOUCHING
from workflows.scoring.score_case import SCORED
from workflows.scoring.surface_distances import Mask

LISTED_LESIONS = 12


@dataclass(frozen=True)
class Lesion:
    """A connected piece of a mask (26 neighbours), and the voxel that lies deepest in it.

    `diameter_mm` is the greatest distance of the centres of two of its voxels; `axial_mm` of two in one axial slice.
    """

    volume_ml: float
    point: tuple[int, int, int]
    diameter_mm: float
    axial_mm: float


@dataclass(frozen=True)
class Measure:
    """One region or class: its lesions are connected pieces larger than `SMALLEST_SCORED_MM3`, its specks the others.

    The diameters are the largest of all pieces; None without any.
    """

    volume_ml: float
    lesions: int
    specks: int
    diameter_mm: float | None
    axial_mm: float | None


def measure_label_map(label_map: NDArray[Any], spacing_mm: Sequence[float]) -> dict[str, Measure]:
    """The regions WT, TC and ET, then the tumour classes by name, in (x, y, z) class indices, z along the patient."""
    tumour = label_map != BACKGROUND
    if tumour.any():
        label_map = label_map[bounding_box(tumour)]
    measures: dict[tuple[int, ...], Measure] = {}
    for classes in SCORED.values():
        if classes not in measures:  # ET is a region and a class
            measures[classes] = _measure(np.isin(label_map, classes), spacing_mm)
    return {name: measures[classes] for name, classes in SCORED.items()}


def _measure(mask: Mask, spacing_mm: Sequence[float]) -> Measure:
    voxel_mm3 = float(np.prod(spacing_mm))
    pieces = list(_pieces(mask))
    large = sum(voxels * voxel_mm3 > SMALLEST_SCORED_MM3 for _, voxels, _ in pieces)
    diameter_mm = axial_mm = 0.0
    by_extent = sorted(pieces, key=lambda piece: -_diagonal_mm(piece[2].shape, spacing_mm))
    for _, _, piece in by_extent:
        if _diagonal_mm(piece.shape, spacing_mm) > diameter_mm:
            diameter_mm = max(diameter_mm, largest_diameter_mm(piece, spacing_mm))
        if _diagonal_mm(piece.shape[:2], spacing_mm) > axial_mm:
            axial_mm = max(axial_mm, largest_axial_diameter_mm(piece, spacing_mm))
    volume_ml = np.count_nonzero(mask) * voxel_ml(spacing_mm)
    diameters = (diameter_mm, axial_mm) if pieces else (None, None)
    return Measure(volume_ml, large, len(pieces) - large, *diameters)


def largest_lesions(mask: Mask, spacing_mm: Sequence[float], count: int = LISTED_LESIONS) -> list[Lesion]:
    """The pieces of a mask with the largest volumes, largest first; specks only where there is nothing larger."""
    each_ml = voxel_ml(spacing_mm)
    pieces = sorted(_pieces(mask), key=lambda piece: -piece[1])[:count]
    found = [piece for piece in pieces if piece[1] * each_ml * 1000 > SMALLEST_SCORED_MM3] or pieces[:1]
    lesions = []
    for box, voxels, piece in found:
        diameters = largest_diameter_mm(piece, spacing_mm), largest_axial_diameter_mm(piece, spacing_mm)
        lesions.append(Lesion(voxels * each_ml, _deepest(piece, box, spacing_mm), *diameters))
    return lesions


def _pieces(mask: Mask) -> Iterator[tuple[tuple[slice, ...], int, Mask]]:
    """Box, number of voxels and cut-out mask of each connected piece."""
    if not mask.any():
        return
    outer = bounding_box(mask)
    labels, _ = ndimage.label(mask[outer], TOUCHING)
    for number, inner in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[inner] == number
        parts = zip(outer, inner, strict=True)
        box = tuple(slice(whole.start + part.start, whole.start + part.stop) for whole, part in parts)
        yield box, int(np.count_nonzero(piece)), piece


def _deepest(piece: Mask, box: tuple[slice, ...], spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    deepest = np.unravel_index(int(depth.argmax()), piece.shape)
    x, y, z = (int(index) + part.start for index, part in zip(deepest, box, strict=True))
    return x, y, z


def _diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Upper bound of a diameter: between the centres of the outermost voxels."""
    return float(np.linalg.norm([(n - 1) * s for n, s in zip(shape, spacing_mm, strict=False)]))


def largest_diameter_mm(piece: Mask, spacing_mm: Sequence[float]) -> float:
    """Greatest distance between the centres of two voxels of a mask, in any direction."""
    border = piece & ~ndimage.binary_erosion(piece)
    return _greatest_distance(np.argwhere(border) * np.asarray(spacing_mm[: piece.ndim]))


def largest_axial_diameter_mm(piece: Mask, spacing_mm: Sequence[float]) -> float:
    """Greatest distance between the centres of two voxels of a mask (x, y, z) in one slice along z."""
    largest = 0.0
    for z in range(piece.shape[2]):
        found = np.argwhere(piece[..., z])
        if len(found) and _diagonal_mm(np.ptp(found, axis=0) + 1, spacing_mm) > largest:
            largest = max(largest, largest_diameter_mm(piece[..., z], spacing_mm))
    return largest


def _greatest_distance(points: NDArray[np.float64]) -> float:
    """Between any two of (N, 2) or (N, 3) points."""
    points = points[:, np.ptp(points, axis=0) > 0]  # a hull needs an extent along every axis
    axes = points.shape[1]
    if axes == 0:
        return 0.0
    if axes == 1:
        return float(np.ptp(points))
    if len(points) > axes + 1:
        points = points[ConvexHull(points, qhull_options="QJ").vertices]  # QJ: also where all lie in one plane
    return float(pdist(points).max())


def disagreement(prediction: NDArray[Any], reference: NDArray[Any]) -> dict[str, Mask]:
    """Tumour that the prediction missed, and tumour that it invented."""
    predicted, true = prediction != BACKGROUND, reference != BACKGROUND
    return {"missed": true & ~predicted, "invented": predicted & ~true}
