"""BraTS 2023's lesion-wise scores: every lesion counts the same, and so does every invention.

The rules are those for gliomas (GLI) in the organisers' public evaluation code. Lesions of the reference whose
surroundings meet count as one. A connected piece of the prediction belongs to every lesion whose surroundings it
touches, and counts as a whole for each of them. A lesion too small to be scored still owns the pieces that touch it:
they are neither scored nor invented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transforms.boxes import bounding_box, widened
from workflows.scoring.surface_distances import Mask, Spacing

TOUCHING = ndimage.generate_binary_structure(3, 3)  # 26 neighbours
DILATION = ndimage.generate_binary_structure(3, 2)  # 18 neighbours
DILATION_STEPS = 3  # voxels
SMALLEST_SCORED_MM3 = 50.0  # lesions up to and including this volume are left out
LESION_PENALTY_MM = 374.0  # HD95 of a missed lesion and of an invention

Distance = Callable[[Mask, Mask], float]


@dataclass(frozen=True)
class LesionScores:
    """Means over the scored lesions and the inventions: 1 and 0 mm where there are none of either."""

    dice: float
    hd95_mm: float
    found: int
    missed: int
    invented: int


def score_lesions(prediction: Mask, reference: Mask, spacing_mm: Spacing, distance: Distance) -> LesionScores:
    """Score a prediction lesion by lesion.

    Args:
        prediction, reference: (H, W, D); they may be cropped to any box that holds both.
        distance: HD95 in mm of two masks that are not empty.
    """
    pieces, piece_count = ndimage.label(prediction, TOUCHING)
    lesions, touching = match_lesions(reference, pieces)
    lesion_voxels, piece_voxels = np.bincount(lesions.ravel()), np.bincount(pieces.ravel())
    overlap = np.bincount(lesions[prediction], minlength=len(lesion_voxels))
    x, y, z = spacing_mm
    scored = 1 + np.flatnonzero(lesion_voxels[1:] * x * y * z > SMALLEST_SCORED_MM3)
    own_pieces = {lesion: touching[touching[:, 0] == lesion, 1] for lesion in scored}
    found = {lesion: own for lesion, own in own_pieces.items() if own.size}
    invented = piece_count - len(np.unique(touching[:, 1]))
    count = len(scored) + invented
    if not count:
        return LesionScores(dice=1.0, hd95_mm=0.0, found=0, missed=0, invented=0)
    dice = sum(2 * overlap[lesion] / (lesion_voxels[lesion] + piece_voxels[own].sum()) for lesion, own in found.items())
    hd95_mm = sum(distance(np.isin(pieces, own), lesions == lesion) for lesion, own in found.items())
    hd95_mm += (count - len(found)) * LESION_PENALTY_MM
    return LesionScores(float(dice / count), hd95_mm / count, len(found), len(scored) - len(found), invented)


def match_lesions(reference: Mask, pieces: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the lesions of the reference, and the pieces of the prediction that belong to them.

    The surroundings of a lesion are exactly one connected component of the dilated reference, so one labelling of that
    tells lesions apart, joins those whose surroundings meet, and says which pieces touch them.

    Args:
        pieces: (H, W, D) numbers of the prediction's connected pieces, 0 in the background.
    Returns:
        (H, W, D) numbers of the lesions, 0 in the background; and (N, 2) pairs of a lesion and a piece that touches
        its surroundings.
    """
    lesions = np.zeros_like(pieces)
    if not reference.any():
        return lesions, np.empty((0, 2), np.int64)
    box = widened(bounding_box(reference), DILATION_STEPS, reference.shape)
    surroundings, _ = ndimage.label(ndimage.binary_dilation(reference[box], DILATION, DILATION_STEPS), TOUCHING)
    lesions[box] = np.where(reference[box], surroundings, 0)
    both = (surroundings > 0) & (pieces[box] > 0)
    stride = int(pieces.max()) + 1
    pairs = np.unique(surroundings[both].astype(np.int64) * stride + pieces[box][both])
    return lesions, np.stack(np.divmod(pairs, stride), axis=1)
